/*
 * A program that tries to get out of the sandbox that it is run in. Each attempt is a line: what it tried, and how it
 * ended. What a test must never see begins with ESCAPED. Its argument is a file of the examiner's that it must not read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>

static const char *secret;
static char marker[64];

static void show(const char *what, long result)
{
	printf("%s %ld %d\n", what, result, result < 0 ? errno : 0);
	fflush(stdout);
}

/* Whether a descriptor leads to the secret: its text begins with a word that the image does not have. */
static void look(const char *what, int fd)
{
	char text[64] = "";

	if (fd >= 0 && read(fd, text, sizeof text - 1) > 0 && strstr(text, "examiner's own"))
		printf("ESCAPED %s read %s\n", what, secret);
	if (fd >= 0)
		close(fd);
}

static char racing[256];
static volatile int racing_on = 1;

static void *flip(void *unused)
{
	(void)unused;
	while (racing_on) {
		strcpy(racing, secret);
		strcpy(racing, "/proc/version");
	}
	return NULL;
}

static void race(void)
{
	struct stat found, real;
	pthread_t thread;

	strcpy(racing, "/proc/version");
	if (pthread_create(&thread, NULL, flip, NULL)) {	/* an emulated program has one thread */
		errno = ENOSYS;
		show("race", -1);
		return;
	}
	for (int i = 0; i < 1500; i++) {
		look("race", open(racing, O_RDONLY));
		if (!stat(racing, &found) && found.st_size == 4242)
			printf("ESCAPED race of stat\n");
	}
	(void)real;
	racing_on = 0;
	pthread_join(thread, NULL);
	show("race", 0);
}

static void paths(void)
{
	char path[512];
	static const char *const roots[] = { "/proc/self/root", "/proc/1/root", "/proc/self/cwd", "/dev/fd/3/../..", "/proc/thread-self/root" };

	look("plain", open(secret, O_RDONLY));
	for (unsigned i = 0; i < sizeof roots / sizeof *roots; i++) {
		snprintf(path, sizeof path, "%s%s", roots[i], secret);
		look(roots[i], open(path, O_RDONLY));
	}
	if (getenv("PATH")) {	/* the prefix below which this machine's own files are */
		snprintf(path, sizeof path, "%s", getenv("PATH"));
		char *end = strstr(path, "/tools/");
		if (end) {
			strcpy(end + strlen("/tools"), secret);
			look("prefix", open(path, O_RDONLY));
			strcpy(end + strlen("/tools"), "/usr/lib/../..");
			strcat(path, secret);
			look("dots", open(path, O_RDONLY));
			strcpy(end + strlen("/tools"), "/etc/shadow");
			show("shadow", open(path, O_RDONLY));
			strcpy(end, "/written");
			show("beside the prefix", open(path, O_WRONLY | O_CREAT, 0600));
		}
	}
	show("write /tmp", open("/tmp/escaped", O_WRONLY | O_CREAT, 0600));
	show("write secret", open(secret, O_WRONLY | O_TRUNC));
	show("unlink", unlink(secret));
	show("mkdir", mkdir("/tmp/escaped", 0700));
	show("exec secret", execl(secret, secret, NULL));
	for (int fd = 3; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf("ESCAPED descriptor %d was open\n", fd);
}

static void calls(void)
{
	struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(22), .sin_addr = { htonl(0x7f000001) } };
	struct sockaddr_un unix_name = { .sun_family = AF_UNIX };
	struct iovec here = { marker, 8 }, theirs = { (void *)0x400000, 8 };
	int pair[2];

	show("io_uring", syscall(425, 8, marker));
	show("ptrace", ptrace(PTRACE_ATTACH, getppid(), 0, 0));
	show("process_vm_readv", syscall(310, getppid(), &here, 1, &theirs, 1, 0));
	show("pidfd_open", syscall(434, getppid(), 0));
	show("unshare", unshare(CLONE_NEWUSER));
	show("clone newuser", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
	show("clone3", syscall(435, marker, 64));
	show("openat2", syscall(437, AT_FDCWD, secret, marker, 24));
	show("open_by_handle_at", syscall(304, 3, marker, 0));
	show("mount", syscall(SYS_mount, "/", "/mnt", "", 4096, 0));
	show("chroot", syscall(SYS_chroot, "/"));
	show("bpf", syscall(321, 0, marker, 8));
	show("keyctl", syscall(250, 0, 0));
	show("x32 open", syscall(0x40000000 | 2, secret, 0));
	int tcp = socket(AF_INET, SOCK_STREAM, 0);
	show("tcp", tcp < 0 ? -1 : connect(tcp, (void *)&there, sizeof there));
	show("packet", socket(AF_PACKET, SOCK_RAW, 0));
	show("unix", socket(AF_UNIX, SOCK_STREAM, 0));
	int udp = socket(AF_INET, SOCK_DGRAM, 0);
	show("udp send", udp < 0 ? -1 : sendto(udp, "x", 1, 0, (void *)&there, sizeof there));
	show("udp connect", udp < 0 ? -1 : connect(udp, (void *)&there, sizeof there));
	strcpy(unix_name.sun_path, "/run/systemd/journal/dev-log");
	socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
	show("pair sendto name", sendto(pair[0], "x", 1, 0, (void *)&unix_name, sizeof unix_name));
	struct msghdr message = { .msg_name = &unix_name, .msg_namelen = sizeof unix_name, .msg_iov = &here, .msg_iovlen = 1 };
	show("pair sendmsg name", sendmsg(pair[0], &message, 0));
	show("kill supervisor", kill(getppid(), SIGTERM));
	show("kill all", kill(-1, SIGKILL));
	show("tty push", syscall(SYS_ioctl, 0, 0x5412, "x"));
	show("setuid", setuid(1000));
}

/* open(2) of 32-bit programs by int 0x80: arguments below 4 GiB. */
static void old_gate(void)
{
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | 0x40, -1, 0);
	long result;

	if (low == MAP_FAILED)
		return;
	strcpy(low, secret);
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(low), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
	printf("int80 %ld 0\n", result);
	look("int80", (int)result);
}

static void bomb(void)
{
	int count = 0;

	while (count < 5000) {
		pid_t child = fork();

		if (child < 0)
			break;
		if (!child)
			for (;;)
				pause();
		count++;
	}
	printf("bomb %d 0\n", count);
	fflush(stdout);
}

/* The same number asks two questions: how much there is in the log, and for so many bytes of it. */
static void logs(void)
{
	char text[10];
	long size = syscall(SYS_syslog, 10, NULL, 0);

	printf("size %ld 0\n", size);
	printf("read %ld 0\n", syscall(SYS_syslog, 3, text, 10));
	printf("again %ld 0\n", syscall(SYS_syslog, 10, NULL, 0));
}

/* System calls that would end the program, wait, or change its memory, standard output or error. */
static const int never_fuzzed[] = {
	SYS_write, SYS_close, SYS_poll, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_brk, SYS_rt_sigaction, SYS_rt_sigprocmask,
	SYS_rt_sigreturn, SYS_pwrite64, SYS_writev, SYS_select, SYS_mremap, SYS_dup2, SYS_pause, SYS_alarm, SYS_setitimer,
	SYS_exit, SYS_wait4, SYS_kill, SYS_getpgid, SYS_rt_sigsuspend, SYS_arch_prctl, SYS_tkill, SYS_epoll_wait,
	SYS_exit_group, SYS_tgkill, SYS_waitid, SYS_pselect6, SYS_ppoll, SYS_epoll_pwait, SYS_dup3, SYS_pwritev, 436,
};

static long fuzzed_argument(char *area, const char *constant)
{
	long word = (long)rand() << 32 | (unsigned)rand();
	const long values[] = {
		0, (long)area, (long)area + 4 * 4096 - 8, (long)area + word % 4096, 8, -1, rand() % 10, 1L << rand() % 63,
		(long)constant, 4096, word, 2046 + rand() % 4, 4094 + rand() % 4, rand() % 64,
	};

	return values[rand() % (sizeof values / sizeof *values)];
}

static void fuzz(void)
{
	char *area = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const char *constant = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long arguments[6], made = 0;

	srand(atoi(secret));
	while (made < 1000) {
		long number = rand() % 460, skipped = 0;

		for (unsigned i = 0; i < sizeof never_fuzzed / sizeof *never_fuzzed; i++)
			skipped |= number == never_fuzzed[i];
		if (skipped)
			continue;
		for (int i = 0; i < 6; i++)
			arguments[i] = fuzzed_argument(area, constant);
		memset(area, rand(), rand() % 64);
		syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
		made++;
	}
	dprintf(1, "fuzz %ld 0\n", made);
	_exit(0);
}

int main(int count, char **arguments)
{
	if (count < 3)
		return 2;
	secret = arguments[2];
	if (!strcmp(arguments[1], "bomb"))
		bomb();
	else if (!strcmp(arguments[1], "logs"))
		logs();
	else if (!strcmp(arguments[1], "fuzz"))
		fuzz();
	else if (!strcmp(arguments[1], "fault"))
		*(volatile int *)8 = 1;
	else {
		paths();
		calls();
		old_gate();
		race();
	}
	return 0;
}
