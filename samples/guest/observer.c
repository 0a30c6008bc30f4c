/*
 * Records what the guest reports of itself, hands it out of the guest and stops the machine for the capture.
 *
 *     observer PLAN
 *
 * PLAN has one order a line (see samples/plan.py). What follows the order `round` is done again if connections have changed
 * between the order `connections` and the last reading. After the last record, the clocks, the pvpanic device is written
 * to; QEMU stops the machine at that store.
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

#include "records.h"
#include "tree.h"
#include "process_memory.h"
#include "connections.h"
#include "last_reading.h"

#define MAX_ORDERS 1024
#define MAX_ROUNDS 5

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
	else if (!strcmp(line, "run")) {
		uint8_t *start = at;
		command(rest);
		at = start;
	}
	else if (!strcmp(line, "early"))
		tree(rest, 'e');
	else if (!strcmp(line, "late"))
		tree(rest, 'l');
	else if (!strcmp(line, "last"))
		record_file('l', rest);
	else if (!strcmp(line, "processes"))
		each_process_file(rest, 0, record_late);
	else if (!strcmp(line, "memory"))
		each_process_memory(rest);
	else if (!strcmp(line, "hold"))
		hold(rest);
	else if (!strcmp(line, "settle"))
		settle(rest);
	else {
		errno = EINVAL;
		die(line);
	}
}

/* Obey the plan; how many rounds it took. */
static int obey_all(const char **orders, int count)
{
	int first = 0, rounds = 1;
	uint8_t *start = at;
	uint64_t before = 0;

	for (int i = 0; i < count; i++) {
		char line[MAX_PATH];

		if (!strcmp(orders[i], "round")) {
			first = i;
			start = at;
		} else if (!strcmp(orders[i], "connections")) {
			before = settled_connections();
		} else {
			strcpy(line, orders[i]);
			obey(line);
		}
		if (i == count - 1 && before != last_connections && rounds < MAX_ROUNDS) {
			rounds++;
			release_held();
			at = start;
			i = first;
		}
	}
	return rounds;
}

int main(int count, char **arguments)
{
	static const char *orders[MAX_ORDERS];
	char line[MAX_PATH];
	int n_orders = 0, rounds;
	size_t size, panic_size;
	struct record *record;
	FILE *plan = fopen(arguments[1], "re");
	volatile uint8_t *panic = device("0x1b36", "0x0011", 0, &panic_size);	/* pvpanic-pci */

	if (count != 2 || !plan)
		die("plan");
	memory = device("0x1af4", "0x1110", 2, &size);	/* ivshmem */
	at = memory + sizeof(struct head);
	limit = memory + size;
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ MAX_HELD + 64, MAX_HELD + 64 });
	snprintf(own_pid, sizeof own_pid, "%d", getpid());
	while (n_orders < MAX_ORDERS && fgets(line, sizeof line, plan)) {
		line[strcspn(line, "\n")] = 0;
		orders[n_orders++] = kept(line);
	}
	rounds = obey_all(orders, n_orders);
	record = begin('r', "");
	append(line, snprintf(line, sizeof line, "%d", rounds));
	end(record, 0);
	((struct head *)memory)->used = at - memory;
	((struct head *)memory)->magic = MAGIC;
	*panic = 1;	/* PVPANIC_PANICKED: the machine stops here (QEMU docs/specs/pvpanic.rst) */
	errno = EIO;
	die("the machine did not stop");
	return 1;
}
