/*
 * The parts of a workload that Debian's own programs cannot play.
 *
 *     actor run [-r] [-u UID] [-n NICE] [-a ARGV0] [-d FOLDER] [-t TTY] PROGRAM ARGUMENT...
 *     actor ROLE ARGUMENT...
 *
 * `run` starts a program as a process of its own (session, user, no open files but /dev/null) and returns when it
 * was executed; with -r (PROGRAM is a link to this one), when it has set up its role. The roles are the functions of the
 * table below; none of them returns.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_FD 19	/* closed when a role is set up: `run` waits for that */

static void die(const char *what)
{
	/* `run` shows it and fails */
	dprintf(READY_FD, "%s: %s\n", what, strerror(errno));
	_exit(1);
}

static long checked(long result, const char *what)
{
	if (result < 0)
		die(what);
	return result;
}

static void ready(void)
{
	close(READY_FD);
}

static void rest(void)
{
	for (;;)
		pause();
}

#include "sockets.h"
#include "processes.h"
#include "files.h"
#include "memory.h"

static const struct { const char *name; void (*play)(char **); int arguments; } roles[] = {
	{ "server", server, 3 }, { "client", client, 4 }, { "closer", closer, 3 }, { "leaver", leaver, 2 },
	{ "backlog", backlog, 2 }, { "loop", loop, 3 },
	{ "caller", caller, 2 }, { "sniffer", sniffer, 0 }, { "threads", threads, 2 }, { "zombie", zombie, 1 },
	{ "stopped", stopped, 0 }, { "traced", traced, 0 }, { "waiting", waiting, 0 }, { "memfd", memfd, 1 },
	{ "idle", idle, 0 }, { "files", files, 1 }, { "ipc", ipc, 1 }, { "terminal", terminal, 0 },
	{ "memory", memory, 1 },
};

static void play(int count, char **arguments)
{
	for (int i = 0; count > 0 && i < (int)(sizeof roles / sizeof *roles); i++)
		if (!strcmp(arguments[0], roles[i].name) && count > roles[i].arguments)
			roles[i].play(arguments + 1);
	errno = EINVAL;
	die("role or its arguments");
}

/* ---- the starter ---- */

static int run(int count, char **arguments)
{
	int uid = 0, role = 0, option, ends[2], status, stops;
	const char *folder = "/", *tty = NULL;
	char *argv0 = NULL, words[256];
	ssize_t size;
	pid_t child;

	optind = 1;
	while ((option = getopt(count, arguments, "+ru:n:a:d:t:")) != -1)
		switch (option) {
		case 'r': role = 1; break;
		case 'u': uid = atoi(optarg); break;
		case 'n': setpriority(PRIO_PROCESS, 0, atoi(optarg)); break;
		case 'a': argv0 = optarg; break;
		case 'd': folder = optarg; break;
		case 't': tty = optarg; break;
		default: return 2;
		}
	arguments += optind;
	count -= optind;
	checked(pipe2(ends, O_CLOEXEC), "pipe");
	stops = role && count > 1 && !strcmp(arguments[1], "stopped");
	child = checked(fork(), "fork");
	if (!child) {
		gid_t groups[] = { uid, 100 };

		setsid();
		for (int i = 0; i < 3; i++)
			dup2(open(tty ? tty : "/dev/null", O_RDWR | O_CLOEXEC), i);
		dup2(ends[1], READY_FD);
		for (int i = 3; i < READY_FD; i++)
			close(i);
		if (!role)
			fcntl(READY_FD, F_SETFD, FD_CLOEXEC);
		checked(chdir(folder), folder);
		if (uid) {
			checked(setgroups(2, groups), "setgroups");
			checked(setgid(uid), "setgid");
			checked(setuid(uid), "setuid");
		}
		char *program = arguments[0];
		if (argv0)
			arguments[0] = argv0;
		execvp(program, arguments);
		die(program);
	}
	close(ends[1]);
	size = read(ends[0], words, sizeof words);
	if (size > 0) {
		fprintf(stderr, "actor: %.*s", (int)size, words);
		return 1;
	}
	if (stops)
		waitpid(child, &status, WUNTRACED);
	return 0;
}

int main(int count, char **arguments)
{
	signal(SIGPIPE, SIG_IGN);
	if (*arguments[0] == '[') {	/* after the role memfd */
		prctl(PR_SET_NAME, strndup(arguments[0] + 1, strcspn(arguments[0] + 1, "]")));
		idle(arguments);
	}
	if (count > 1 && !strcmp(arguments[1], "run"))
		return run(count - 1, arguments + 1);
	play(count - 1, arguments + 1);
	return 2;
}
