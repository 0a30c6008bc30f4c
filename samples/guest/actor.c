/*
 * The parts of a workload that Debian's own programs cannot play.
 *
 *     actor run [-r] [-u UID] [-n NICE] [-a ARGV0] [-d FOLDER] [-t TTY] PROGRAM ARGUMENT...
 *     actor ROLE ARGUMENT...
 *
 * `run` starts a program as a process of its own (session, user, no open files but /dev/null) and returns when it
 * was executed; with -r (PROGRAM is a link to this one) when it has set up its role. The roles are the functions
 * of the table near the end; none of them returns.
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

#define READY_FD 19	/* closed when a role is set up: whoever started it waits for that */


static void die(const char *what)
{
	/* to whoever waits for us, who shows it and fails */
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

/* ---- sockets ---- */

union address { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; struct sockaddr_un local; };

/* "127.0.0.1", "::1", "/path" or "@abstract"; the length. */
static socklen_t address(union address *address, const char *host, int port)
{
	memset(address, 0, sizeof *address);
	if (*host == '/' || *host == '@') {
		address->local.sun_family = AF_UNIX;
		strncpy(address->local.sun_path, host, sizeof address->local.sun_path - 1);
		if (*host == '@')
			address->local.sun_path[0] = 0;
		return offsetof(struct sockaddr_un, sun_path) + strlen(host) + (*host == '/');
	}
	if (strchr(host, ':')) {
		address->v6.sin6_family = AF_INET6;
		address->v6.sin6_port = htons(port);
		inet_pton(AF_INET6, host, &address->v6.sin6_addr);
		return sizeof address->v6;
	}
	address->v4.sin_family = AF_INET;
	address->v4.sin_port = htons(port);
	inet_pton(AF_INET, host, &address->v4.sin_addr);
	return sizeof address->v4;
}

static int bound(int type, const char *host, int port)
{
	union address here;
	socklen_t size = address(&here, host, port);
	int one = 1, fd = checked(socket(here.any.sa_family, type, 0), "socket");

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (here.any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	umask(0);	/* anyone may connect to a path */
	checked(bind(fd, &here.any, size), host);
	return fd;
}

static int connected(int type, const char *host, int port)
{
	union address there;
	socklen_t size = address(&there, host, port);
	int fd = checked(socket(there.any.sa_family, type, 0), "socket");

	checked(connect(fd, &there.any, size), host);
	return fd;
}

static int type_of(const char *name)
{
	return !strcmp(name, "dgram") ? SOCK_DGRAM : !strcmp(name, "seqpacket") ? SOCK_SEQPACKET : SOCK_STREAM;
}

/* server TYPE HOST PORT: accept for good. A peer that ends is let go, unless it left bytes behind (CLOSE_WAIT). */
static void server(char **arguments)
{
	struct pollfd files[64];
	int type = type_of(arguments[0]), count = 1, waiting;

	files[0] = (struct pollfd){ bound(type, arguments[1], atoi(arguments[2])), POLLIN, 0 };
	if (type == SOCK_DGRAM) {
		ready();
		rest();
	}
	checked(listen(files[0].fd, 16), "listen");
	ready();
	while (poll(files, count, -1) > 0) {
		for (int i = count - 1; i > 0; i--)
			if (files[i].revents) {
				if (ioctl(files[i].fd, FIONREAD, &waiting) || !waiting)
					close(files[i].fd);
				files[i] = files[--count];
			}
		if (files[0].revents && count < 64) {
			int fd = accept4(files[0].fd, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				files[count++] = (struct pollfd){ fd, POLLRDHUP, 0 };
		}
	}
	rest();
}

/* client TYPE HOST PORT BYTES: connect, send BYTES bytes, stay. */
static void client(char **arguments)
{
	int fd = connected(type_of(arguments[0]), arguments[1], atoi(arguments[2]));
	static char data[1 << 16];

	memset(data, 'u', sizeof data);
	send(fd, data, atoi(arguments[3]) & 0xffff, MSG_DONTWAIT);
	ready();
	rest();
}

/* closer HOST PORT COUNT: connections closed by us after the other side had its say (TIME_WAIT). */
static void closer(char **arguments)
{
	char byte;

	for (int i = atoi(arguments[2]); i > 0; i--) {
		int fd = connected(SOCK_STREAM, arguments[0], atoi(arguments[1]));
		shutdown(fd, SHUT_WR);
		read(fd, &byte, 1);
		close(fd);
	}
	ready();
	_exit(0);
}

/* leaver HOST PORT: send a byte that nobody reads and go (FIN_WAIT2 here, CLOSE_WAIT there). */
static void leaver(char **arguments)
{
	int fd = connected(SOCK_STREAM, arguments[0], atoi(arguments[1]));

	send(fd, "x", 1, 0);
	close(fd);
	ready();
	_exit(0);
}

/* caller HOST PORT: a connection that nobody answers (SYN_SENT). */
static void caller(char **arguments)
{
	union address there;
	socklen_t size = address(&there, arguments[0], atoi(arguments[1]));
	int fd = checked(socket(there.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");

	connect(fd, &there.any, size);
	ready();
	rest();
}

/* sniffer: packet, raw and netlink sockets. */
static void sniffer(char **arguments)
{
	struct sockaddr_storage here = { AF_NETLINK };

	(void)arguments;
	checked(socket(AF_PACKET, SOCK_RAW, htons(3)), "packet socket");
	checked(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw socket");
	checked(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), "raw socket");
	bind(socket(AF_NETLINK, SOCK_RAW, 0), (struct sockaddr *)&here, 12);
	ready();
	rest();
}

/* ---- processes ---- */

static void *thread(void *name)
{
	prctl(PR_SET_NAME, name);
	rest();
	return NULL;
}

/* threads COUNT NAME */
static void threads(char **arguments)
{
	for (int i = 0; i < atoi(arguments[0]); i++) {
		pthread_t id;
		char name[64];

		snprintf(name, sizeof name, "%s-%d", arguments[1], i);
		if (pthread_create(&id, NULL, thread, strdup(name)))
			die("thread");
	}
	usleep(50000);	/* until each has named itself */
	ready();
	rest();
}

/* zombie STATUS: a child that nobody waits for. */
static void zombie(char **arguments)
{
	siginfo_t info;
	pid_t child = fork();

	if (!child)
		_exit(atoi(arguments[0]));
	waitid(P_PID, child, &info, WEXITED | WNOWAIT);
	ready();
	rest();
}

/* stopped: by job control. */
static void stopped(char **arguments)
{
	(void)arguments;
	ready();
	raise(SIGSTOP);
	rest();
}

/* traced: a child in a debugger's hands. */
static void traced(char **arguments)
{
	pid_t child = fork();

	(void)arguments;
	if (!child) {
		ready();
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		rest();
	}
	waitpid(child, NULL, 0);
	ready();
	rest();
}

/* waiting: uninterruptible, as every parent is until its vfork child executes. */
static void waiting(char **arguments)
{
	(void)arguments;
	/* vfork, but the child's close() counts for the parent too; neither ever leaves this frame */
	if (!syscall(SYS_clone, CLONE_VFORK | CLONE_VM | CLONE_FILES | SIGCHLD, 0, 0, 0, 0))
		ready();
	rest();
}

/* memfd NAME ARGUMENT...: runs on from a file that exists in memory only, called NAME. */
static void memfd(char **arguments)
{
	char buffer[4096];
	ssize_t got;
	int from = open("/proc/self/exe", O_RDONLY), to = syscall(SYS_memfd_create, "payload", 0);
	char *nothing[] = { NULL };

	while ((got = read(from, buffer, sizeof buffer)) > 0)
		write(to, buffer, got);
	close(from);
	fcntl(to, F_SETFD, 0);
	snprintf(buffer, sizeof buffer, "/proc/self/fd/%d", to);
	execve(buffer, arguments, nothing);
	die("memfd");
}

/* idle ARGUMENT...: for the sake of the command line. */
static void idle(char **arguments)
{
	(void)arguments;
	ready();
	rest();
}

/* ---- files and memory ---- */

/* files FOLDER: open, deleted, mapped and locked files, pipes and the other things that descriptors may be. */
static void files(char **arguments)
{
	struct itimerspec often = { { 600, 0 }, { 600, 0 } };
	struct epoll_event event = { EPOLLIN };
	int pipes[2], fd, poller, timer;
	sigset_t signals;

	checked(chdir(arguments[0]), arguments[0]);
	fd = checked(open("ledger.db", O_RDWR | O_CREAT, 0640), "ledger.db");
	ftruncate(fd, 65536);
	memset(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), 'L', 65536);
	flock(fd, LOCK_EX);
	fcntl(fd, F_SETLK, &(struct flock){ .l_type = F_WRLCK, .l_start = 100, .l_len = 10 });
	fd = open("removed.log", O_RDWR | O_CREAT | O_APPEND, 0600);
	write(fd, "removed\n", 8);
	unlink("removed.log");
	pipe(pipes);
	write(pipes[1], "in the pipe", 11);
	timer = timerfd_create(CLOCK_MONOTONIC, 0);
	timerfd_settime(timer, 0, &often, NULL);
	poller = epoll_create1(0);
	epoll_ctl(poller, EPOLL_CTL_ADD, pipes[0], &event);
	eventfd(7, 0);
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signalfd(-1, &signals, 0);
	inotify_add_watch(inotify_init(), ".", IN_CREATE);
	mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ready();
	rest();
}

/* ipc KEY: System V shared memory, semaphores and messages. */
static void ipc(char **arguments)
{
	key_t key = atoi(arguments[0]);
	struct { long type; char text[16]; } message = { 1, "queued" };
	int id = checked(shmget(key, 12345, IPC_CREAT | 0640), "shmget");

	strcpy(shmat(id, NULL, 0), "shared");
	checked(semget(key, 3, IPC_CREAT | 0600), "semget");
	msgsnd(msgget(key, IPC_CREAT | 0600), &message, sizeof message.text, 0);
	ready();
	rest();
}

/* terminal: a shell's place on a pseudo terminal of its own. */
static void terminal(char **arguments)
{
	int master = checked(posix_openpt(O_RDWR | O_NOCTTY), "ptmx"), ends[2];
	char byte;

	(void)arguments;
	grantpt(master);
	unlockpt(master);
	pipe2(ends, O_CLOEXEC);
	if (!fork()) {
		close(READY_FD);
		setsid();
		int fd = checked(open(ptsname(master), O_RDWR), "pts");
		ioctl(fd, TIOCSCTTY, 0);
		for (int i = 0; i < 3; i++)
			dup2(fd, i);
		close(fd);
		close(master);
		execl("/bin/sh", "-sh", NULL);
		_exit(1);
	}
	close(ends[1]);
	read(ends[0], &byte, 1);
	close(ends[0]);
	ready();
	rest();
}

static const struct { const char *name; void (*play)(char **); int arguments; } roles[] = {
	{ "server", server, 3 }, { "client", client, 4 }, { "closer", closer, 3 }, { "leaver", leaver, 2 },
	{ "caller", caller, 2 }, { "sniffer", sniffer, 0 }, { "threads", threads, 2 }, { "zombie", zombie, 1 },
	{ "stopped", stopped, 0 }, { "traced", traced, 0 }, { "waiting", waiting, 0 }, { "memfd", memfd, 1 },
	{ "idle", idle, 0 }, { "files", files, 1 }, { "ipc", ipc, 1 }, { "terminal", terminal, 0 },
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
