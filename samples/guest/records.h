/*
 * The records of the observer. Every record is written straight into the shared memory of an ivshmem device: no byte
 * of it is buffered in the guest's memory, which would then hold a copy of the answers.
 */

/* Layout of the shared memory: a struct head, then records up to `used` bytes (samples/truth.py reads it). */
struct head { uint64_t magic, used; };
struct record { uint32_t kind, status, name_size, data_size; };
#define MAGIC 0x3154524f50455248ull
#define READ_SIZE 16384
#define FILE_LIMIT (4u << 20)
#define MAX_PATH 1024

static uint8_t *memory, *at, *limit;

static void die(const char *what)
{
	printf("observer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static const char *kept(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		die("memory");
	return copy;
}

static struct record *begin(int kind, const char *name)
{
	struct record *record = (struct record *)at;
	uint32_t size = strlen(name);

	if (limit - at < (long)(sizeof *record + size + READ_SIZE)) {
		errno = ENOSPC;
		die("shared memory");
	}
	record->kind = kind;
	record->status = 0;
	record->name_size = size;
	memcpy(record + 1, name, size);
	at = (uint8_t *)(record + 1) + size;
	return record;
}

static void end(struct record *record, int status)
{
	record->status = status;
	record->data_size = at - ((uint8_t *)(record + 1) + record->name_size);
	at += -(uintptr_t)at & 3;
}

static void append(const char *data, size_t size)
{
	memcpy(at, data, size);
	at += size;
}

/* Read a file to its end; an errno. What was read before an error stays. */
static int drain(int fd)
{
	uint8_t *start = at;
	ssize_t got = 0;

	while (at - start < FILE_LIMIT && limit - at > READ_SIZE) {
		got = read(fd, at, READ_SIZE);
		if (got <= 0)
			break;
		at += got;
	}
	return got < 0 ? errno : got > 0 ? EFBIG : 0;
}

static void record_file(int kind, const char *path)
{
	struct record *record = begin(kind, path);
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int status = fd < 0 ? errno : drain(fd);

	if (fd >= 0)
		close(fd);
	end(record, status);
}

static void record_link(const char *path)
{
	struct record *record = begin('k', path);
	ssize_t size = readlink(path, (char *)at, READ_SIZE);

	if (size > 0)
		at += size;
	end(record, size < 0 ? errno : 0);
}

static void record_clock(const char *name, clockid_t clock)
{
	struct timespec now;
	char text[64];
	struct record *record = begin('t', name);

	clock_gettime(clock, &now);
	append(text, snprintf(text, sizeof text, "%lld.%09ld", (long long)now.tv_sec, now.tv_nsec));
	end(record, 0);
}

static void record_clocks(void)
{
	record_clock("realtime", CLOCK_REALTIME);
	record_clock("monotonic", CLOCK_MONOTONIC);
	record_clock("boottime", CLOCK_BOOTTIME);
}
