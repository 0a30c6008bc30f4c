/*
 * Loads modules, one after the other, as insmod does.
 *
 *     load_modules ORDER FOLDER REFUSED SECONDS ALL
 *
 * ORDER has the names of the modules, one a line (words behind a name are ignored); FOLDER has their files, which are
 * removed so that they take no memory. A module whose initialisation does not end in SECONDS is left alone, and those
 * that have not begun after ALL seconds are not loaded. The file REFUSED gets a line for each module that was not
 * loaded: its name and the error number, 0 for one that did not end or begin.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_PATH 512

/* Load the module in a file; an errno. */
static int load(const char *path)
{
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status))
		return errno;
	void *data = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return errno;
	return syscall(SYS_init_module, data, (unsigned long)status.st_size, "") ? errno : 0;
}

/* The exit status of a child; -1 if it does not end in time. */
static int status_of(pid_t pid, const sigset_t *child_ends, long seconds)
{
	struct timespec limit = { seconds, 0 };
	int status;

	for (;;) {
		pid_t ended = waitpid(pid, &status, WNOHANG);
		if (ended == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
		if (sigtimedwait(child_ends, NULL, &limit) < 0 && errno == EAGAIN)
			return -1;
	}
}

int main(int count, char **arguments)
{
	char line[MAX_PATH], path[MAX_PATH];
	sigset_t child_ends;
	int total = 0, loaded = 0;

	if (count != 6)
		return 2;
	FILE *order = fopen(arguments[1], "re"), *refused = fopen(arguments[3], "we");
	time_t end = time(NULL) + atol(arguments[5]);
	if (!order || !refused) {
		printf("load_modules: %s\n", strerror(errno));
		return 1;
	}
	sigemptyset(&child_ends);
	sigaddset(&child_ends, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ends, NULL);
	while (fgets(line, sizeof line, order)) {
		line[strcspn(line, " \n")] = 0;
		total++;
		if (time(NULL) >= end) {
			fprintf(refused, "%s 0\n", line);
			continue;
		}
		snprintf(path, sizeof path, "%s/%s.ko", arguments[2], line);
		printf("%s ", line);
		fflush(stdout);
		pid_t pid = fork();
		if (!pid)
			_exit(load(path));
		int status = status_of(pid, &child_ends, atol(arguments[4]));
		loaded += !status;
		if (status)
			fprintf(refused, "%s %d\n", line, status < 0 ? 0 : status);
		unlink(path);
	}
	fclose(refused);
	printf("\nload_modules: %d of %d are loaded\n", loaded, total);
	return 0;
}
