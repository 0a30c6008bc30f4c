/*
 * Records what the guest says of itself, hands it out of the guest and freezes the machine.
 *
 *     observer PLAN
 *
 * PLAN has one order a line (see samples/plan.py). Every record is written straight into the shared memory of an
 * ivshmem device: nothing of it is buffered in guest memory, which would then hold a copy of the answers. After
 * the last record, the clocks, the pvpanic device is written to; QEMU stops the machine at that store.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Layout of the shared memory: a struct head, then records up to `used` bytes (samples/truth.py reads it). */
struct head { uint64_t magic, used; };
struct record { uint32_t kind, status, name_size, data_size; };
#define MAGIC 0x3154524f50455248ull
#define READ_SIZE 16384
#define FILE_LIMIT (4u << 20)
#define MAX_RULES 128
#define MAX_DEPTH 12
#define MAX_PATH 1024
#define MAX_HELD 16384

struct kernel_dirent { uint64_t ino; int64_t off; uint16_t size; uint8_t type; char name[]; };

static uint8_t *memory, *at, *limit;
static const char *skipped[MAX_RULES], *skipped_names[MAX_RULES], *leader_names[MAX_RULES];
static int n_skipped, n_skipped_names, n_leader_names;
static char own_pid[16];

static void die(const char *what)
{
	printf("observer: %s: %s\n", what, strerror(errno));
	exit(1);
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

/* Read until the end; an errno. What was read before an error stays. */
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

static int listed(const char *const *list, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(list[i], name))
			return 1;
	return 0;
}

static int is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

static ino_t networks[64];
static int n_networks;

/* Whether a process (/proc/PID) is in a network namespace that this pass has not seen yet. */
static int new_network(const char *process)
{
	char name[MAX_PATH];
	struct stat status;

	snprintf(name, sizeof name, "%s/ns/net", process);
	if (n_networks == 64 || stat(name, &status))
		return 0;
	for (int i = 0; i < n_networks; i++)
		if (networks[i] == status.st_ino)
			return 0;
	networks[n_networks++] = status.st_ino;
	return 1;
}

/*
 * Record everything below PATH, links not followed: files as KIND, and folders and links too in the first pass.
 * Below /proc the observer itself is left out, a thread's folder is read in full only if it is not its process's
 * first, and /proc/PID/net only once for each network namespace but the observer's (that is /proc/net).
 */
static void walk(const char *path, int kind, int depth)
{
	/* A listing is kept at a folder's own depth while its entries are read. */
	static char lists[MAX_DEPTH][READ_SIZE];
	char *list = lists[depth], child[MAX_PATH];
	struct record *record = NULL;
	const char *parent = strrchr(path, '/') + 1;
	const char *owner = strstr(path, "/task/");
	int leader = 0, fd;
	long size;

	if (owner && !strcmp(owner + 6, parent)) {	/* /proc/PID/task/TID */
		long length = strlen(parent);
		leader = owner - path > length && !strncmp(owner - length, parent, length) && owner[-length - 1] == '/';
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (kind == 'e') {
		record = begin('d', path);
		if (fd < 0) {
			end(record, errno);
			return;
		}
		/* The names alone, one a line, on a walk of its own through the folder. */
		while ((size = syscall(SYS_getdents64, fd, list, READ_SIZE)) > 0)
			for (long next = 0; next < size && limit - at > READ_SIZE;) {
				struct kernel_dirent *entry = (void *)(list + next);
				if (strcmp(entry->name, ".") && strcmp(entry->name, "..")) {
					append(entry->name, strlen(entry->name));
					append("\n", 1);
				}
				next += entry->size;
			}
		end(record, size < 0 ? errno : 0);
		lseek(fd, 0, SEEK_SET);
	}
	while (fd >= 0 && (size = syscall(SYS_getdents64, fd, list, READ_SIZE)) > 0)
		for (long next = 0; next < size;) {
			struct kernel_dirent *entry = (void *)(list + next);
			const char *name = entry->name;

			next += entry->size;
			if (!strcmp(name, ".") || !strcmp(name, "..") || listed(skipped_names, n_skipped_names, name))
				continue;
			if (leader && !listed(leader_names, n_leader_names, name))
				continue;
			if (!strcmp(path, "/proc") && !strcmp(name, own_pid))
				continue;
			if (snprintf(child, sizeof child, "%s/%s", path, name) >= (int)sizeof child)
				continue;
			if (listed(skipped, n_skipped, child))
				continue;
			if (entry->type == DT_REG)
				record_file(kind, child);
			else if (entry->type == DT_LNK && kind == 'e')
				record_link(child);
			else if (entry->type == DT_DIR && depth + 1 < MAX_DEPTH) {
				if (!strcmp(name, "net") && is_number(parent) && (owner || !new_network(path)))
					continue;
				walk(child, kind, depth + 1);
			}
		}
	if (fd >= 0)
		close(fd);
}

static void tree(const char *path, int kind)
{
	n_networks = 0;
	new_network("/proc/self");
	walk(path, kind, 0);
}

/* The given files of every process and thread, the observer's own too. */
static void processes(char *names)
{
	static char path[MAX_PATH], *list[MAX_RULES];
	int count = 0;
	DIR *folder = opendir("/proc"), *threads;
	struct dirent *entry, *thread;

	for (char *name = strtok(names, " "); name && count < MAX_RULES; name = strtok(NULL, " "))
		list[count++] = name;
	while (folder && (entry = readdir(folder))) {
		if (!is_number(entry->d_name))
			continue;
		for (int i = 0; i < count; i++) {
			snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, list[i]);
			record_file('l', path);
		}
		snprintf(path, sizeof path, "/proc/%s/task", entry->d_name);
		threads = opendir(path);
		while (threads && (thread = readdir(threads))) {
			if (!is_number(thread->d_name) || !strcmp(thread->d_name, entry->d_name))
				continue;
			for (int i = 0; i < count; i++) {
				snprintf(path, sizeof path, "/proc/%s/task/%s/%s", entry->d_name, thread->d_name, list[i]);
				record_file('l', path);
			}
		}
		if (threads)
			closedir(threads);
	}
	if (folder)
		closedir(folder);
}

static void command(char *line)
{
	static char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "S_COLORS=never", "TERM=dumb", NULL };
	struct record *record = begin('c', line);
	char *arguments[32];
	int count = 0, status = 0, ends[2], error;
	posix_spawn_file_actions_t actions;
	pid_t pid;

	for (char *word = strtok(line, " "); word && count < 31; word = strtok(NULL, " "))
		arguments[count++] = word;
	arguments[count] = NULL;
	if (pipe2(ends, O_CLOEXEC))
		die("pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	environ = (char **)environment;
	error = posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environment);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	if (!error) {
		drain(ends[0]);
		waitpid(pid, &status, 0);
	}
	close(ends[0]);
	end(record, error ? error : status);
}

/* Map a memory resource of the PCI device VENDOR:DEVICE. */
static void *device(const char *vendor, const char *id, int resource, size_t *size)
{
	char path[MAX_PATH], value[16];
	DIR *folder = opendir("/sys/bus/pci/devices");
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		static const char *const names[] = { "vendor", "device" };
		const char *const wanted[] = { vendor, id };
		int fits = 1;

		for (int i = 0; i < 2 && fits; i++) {
			snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", entry->d_name, names[i]);
			int fd = open(path, O_RDONLY);
			ssize_t got = fd < 0 ? 0 : read(fd, value, sizeof value - 1);
			close(fd);
			value[got > 0 ? got : 0] = 0;
			fits = !strncmp(value, wanted[i], strlen(wanted[i]));
		}
		if (!fits)
			continue;
		snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/enable", entry->d_name);
		int fd = open(path, O_WRONLY);
		if (fd < 0 || write(fd, "1", 1) != 1)
			die(path);
		close(fd);
		snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource%d", entry->d_name, resource);
		fd = open(path, O_RDWR);
		struct stat status;
		if (fd < 0 || fstat(fd, &status))
			die(path);
		*size = status.st_size;
		void *mapped = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (mapped == MAP_FAILED)
			die(path);
		close(fd);
		closedir(folder);
		return mapped;
	}
	errno = ENODEV;
	die(id);
	return NULL;
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

static const char *kept(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		die("memory");
	return copy;
}

/* ---- the very last reading ---- */

/* Files that are kept open for it: opening and closing would itself set the system in motion (RCU). */
static struct { int fd; const char *path; } held[MAX_HELD];
static int n_held;

static void hold(const char *path)
{
	int fd = n_held < MAX_HELD ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	held[n_held].fd = fd;
	held[n_held++].path = kept(path);
}

static void hold_all(char *names)
{
	char path[MAX_PATH], *list[MAX_RULES];
	int count = 0;
	DIR *processes = opendir("/proc"), *threads;
	struct dirent *process, *thread;

	for (char *name = strtok(names, " "); name && count < MAX_RULES; name = strtok(NULL, " "))
		list[count++] = name;
	while (processes && (process = readdir(processes))) {
		if (!is_number(process->d_name))
			continue;
		for (int i = 0; i < count; i++) {
			snprintf(path, sizeof path, "/proc/%s/%s", process->d_name, list[i]);
			hold(path);
		}
		snprintf(path, sizeof path, "/proc/%s/task", process->d_name);
		threads = opendir(path);
		while (threads && (thread = readdir(threads)))
			for (int i = 0; i < count && is_number(thread->d_name); i++) {
				snprintf(path, sizeof path, "/proc/%s/task/%s/%s", process->d_name, thread->d_name, list[i]);
				hold(path);
			}
		if (threads)
			closedir(threads);
	}
	if (processes)
		closedir(processes);
}

/* How often the system has changed from one task to another (/proc/stat); -1 if others than we want to run. */
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

/*
 * Read these files of every process and thread again and again until nobody else ran meanwhile: states and times
 * are then those of the freeze. After some seconds we take what we have.
 */
static void settle(char *names)
{
	int stat_fd = open("/proc/stat", O_RDONLY | O_CLOEXEC), attempt;
	struct record *record;
	uint8_t *start;
	char text[16];

	hold_all(names);
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
	for (attempt = 1; attempt <= 100; attempt++) {
		long before = switches(stat_fd);

		at = start;
		for (int i = 0; i < n_held; i++) {
			ssize_t size;

			record = begin('l', held[i].path);
			size = pread(held[i].fd, at, READ_SIZE, 0);
			if (size > 0)
				at += size;
			end(record, size < 0 ? errno : 0);
		}
		if (before >= 0 && before == switches(stat_fd))
			break;
		usleep(20000);	/* let the others finish */
	}
	record_clocks();
	record = begin('s', "");
	append(text, snprintf(text, sizeof text, "%d", attempt <= 100 ? attempt : 0));
	end(record, 0);
}

/* Obey one line of the plan. */
static void obey(char *line)
{
	char *rest = strchr(line, ' ');

	if (!rest || *line == '#')
		return;
	*rest++ = 0;
	if (!strcmp(line, "skip") && n_skipped < MAX_RULES)
		skipped[n_skipped++] = kept(rest);
	else if (!strcmp(line, "skip-name") && n_skipped_names < MAX_RULES)
		skipped_names[n_skipped_names++] = kept(rest);
	else if (!strcmp(line, "leader-name") && n_leader_names < MAX_RULES)
		leader_names[n_leader_names++] = kept(rest);
	else if (!strcmp(line, "command"))
		command(rest);
	else if (!strcmp(line, "early"))
		tree(rest, 'e');
	else if (!strcmp(line, "late"))
		tree(rest, 'l');
	else if (!strcmp(line, "last"))
		record_file('l', rest);
	else if (!strcmp(line, "processes"))
		processes(rest);
	else if (!strcmp(line, "hold"))
		hold(rest);
	else if (!strcmp(line, "settle"))
		settle(rest);
	else {
		errno = EINVAL;
		die(line);
	}
}

int main(int count, char **arguments)
{
	char line[MAX_PATH];
	size_t size, panic_size;
	FILE *plan = fopen(arguments[1], "re");
	volatile uint8_t *panic = device("0x1b36", "0x0011", 0, &panic_size);	/* pvpanic-pci */

	if (count != 2 || !plan)
		die("plan");
	memory = device("0x1af4", "0x1110", 2, &size);	/* ivshmem */
	at = memory + sizeof(struct head);
	limit = memory + size;
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ MAX_HELD + 64, MAX_HELD + 64 });
	snprintf(own_pid, sizeof own_pid, "%d", getpid());
	while (fgets(line, sizeof line, plan)) {
		line[strcspn(line, "\n")] = 0;
		obey(line);
	}
	((struct head *)memory)->used = at - memory;
	((struct head *)memory)->magic = MAGIC;
	*panic = 1;	/* PVPANIC_PANICKED: the machine stops here (QEMU docs/specs/pvpanic.rst) */
	errno = EIO;
	die("the machine did not freeze");
	return 1;
}
