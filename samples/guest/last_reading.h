/*
 * The last reading before the capture. Its files are opened beforehand: opening and closing would itself set the system
 * in motion (RCU).
 */

#define MAX_HELD 16384
#define MAX_ATTEMPTS 100

static struct { int fd; const char *path; } held[MAX_HELD];
static int n_held;
static uint64_t last_connections;	/* in this reading */

static void hold(const char *path)
{
	int fd = n_held < MAX_HELD ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	held[n_held].fd = fd;
	held[n_held++].path = kept(path);
}

static void release_held(void)
{
	while (n_held)
		close(held[--n_held].fd);
}

/* How many task switches there have been (/proc/stat); -1 if another task than this one wants to run. */
static long switches(int fd)
{
	static char text[1 << 15];
	char *counted, *running;
	ssize_t size = pread(fd, text, sizeof text - 1, 0);

	text[size > 0 ? size : 0] = 0;
	counted = strstr(text, "\nctxt ");
	running = strstr(text, "\nprocs_running ");
	return counted && running && atol(running + 15) == 1 ? atol(counted + 6) : -1;
}

/* Read an open file from its start to its end; an errno. A sequence file of the kernel gives a page at a time. */
static int reread(int fd)
{
	uint8_t *start = at;
	ssize_t got;

	while ((got = pread(fd, at, READ_SIZE, at - start)) > 0 && at - start < FILE_LIMIT && limit - at > 2 * READ_SIZE)
		at += got;
	return got < 0 ? errno : 0;
}

/*
 * Read the files held, and these files of every process and thread, again and again until no other task ran meanwhile:
 * states and times are then those of the capture. After MAX_ATTEMPTS the last reading counts.
 */
static void settle(char *names)
{
	int stat_fd = open("/proc/stat", O_RDONLY | O_CLOEXEC), attempt;
	struct record *record;
	uint8_t *start;
	char text[16];

	each_process_file(names, 1, hold);
	record = begin('p', "");
	for (int i = 0; i < n_held; i++) {
		const char *pid = held[i].path + strlen("/proc/");
		size_t size = strspn(pid, "0123456789");

		if (size && (!i || strncmp(pid, held[i - 1].path + strlen("/proc/"), size + 1))) {
			append(pid, size);
			append("\n", 1);
		}
	}
	end(record, 0);
	start = at;
	record_clocks();	/* so that nothing needs to be paged in later */
	for (attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
		long before = switches(stat_fd);

		at = start;
		last_connections = 0;
		for (int i = 0; i < n_held; i++) {
			char *text;
			int status;

			record = begin('l', held[i].path);
			text = (char *)at;
			status = reread(held[i].fd);
			if (is_table(held[i].path))
				last_connections += connections_in(text, (char *)at);
			end(record, status);
		}
		if (before >= 0 && before == switches(stat_fd))
			break;
		usleep(20000);	/* let the other tasks finish */
	}
	record_clocks();
	record = begin('s', "");
	append(text, snprintf(text, sizeof text, "%d", attempt <= MAX_ATTEMPTS ? attempt : 0));
	end(record, 0);
}
