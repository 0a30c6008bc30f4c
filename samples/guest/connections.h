/*
 * Whether connections have changed: those that were closed are forgotten a minute later (TCP_TIMEWAIT_LEN), and on a slow
 * machine that minute may end between a command's report and the capture.
 */

#define MAX_WAITS 50

static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6" };

/* The sum over the lines of a table of a hash (FNV-1a) of both addresses and the state. */
static uint64_t connections_in(const char *text, const char *end)
{
	uint64_t sum = 0;
	const char *next;

	for (; text < end && (next = memchr(text, '\n', end - text)); text = next + 1) {
		const char *at = memmem(text, next - text, ": ", 2);	/* behind the number of the line */
		uint64_t hash = 14695981039346656037ull;
		int words = 3;

		for (at = at ? at + 2 : next; at < next && words; at++) {
			words -= *at == ' ';
			hash = (hash ^ *at) * 1099511628211ull;
		}
		if (!words)
			sum += hash;
	}
	return sum;
}

static int is_table(const char *path)
{
	return !strcmp(path, tables[0]) || !strcmp(path, tables[1]);
}

/* The connections that there are now. What is read is not recorded. */
static uint64_t connections(void)
{
	uint8_t *start = at;
	uint64_t sum = 0;

	for (int i = 0; i < 2; i++) {
		int fd = open(tables[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		drain(fd);
		close(fd);
		sum += connections_in((char *)start, (char *)at);
		at = start;
	}
	return sum;
}

/* The connections when none has changed for a tenth of a second: acknowledgements may come late. */
static uint64_t settled_connections(void)
{
	uint64_t before = connections(), now;

	for (int i = 0; i < MAX_WAITS; i++) {
		usleep(100000);
		now = connections();
		if (now == before)
			break;
		before = now;
	}
	return before;
}
