/*
 * What attackers do to processes without touching the kernel, each as a process named after its role, and what
 * looks like it and is harmless.
 *
 *     attacks ROLE ARGUMENT...
 *
 * A role that is set up creates /run/ready/ROLE; none of them returns.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <termios.h>
#include <unistd.h>

#define PAGE 4096UL

static const char *role;

static void die(const char *what)
{
	fprintf(stderr, "attacks %s: %s: %s\n", role, what, strerror(errno));
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
	char path[128];

	snprintf(path, sizeof path, "/run/ready/%s", role);
	close(checked(open(path, O_CREAT | O_WRONLY, 0600), path));
}

static void rest(void)
{
	ready();
	for (;;)
		pause();
}

/* again: mov eax, SYS_pause; syscall; jmp again */
static const unsigned char waiting_code[] = { 0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7 };

#include "injection.h"
#include "odd_mappings.h"
#include "typist.h"
#include "unread.h"

/* idle NAME: what copies of this program are run as. */
static void idle(char **arguments)
{
	role = arguments[0];
	prctl(PR_SET_NAME, role);
	rest();
}

static const struct { const char *name; void (*play)(char **); int arguments; } roles[] = {
	{ "idle", idle, 1 }, { "hollow", hollow, 1 }, { "inject", inject, 1 },
	{ "memfd", memfd, 0 }, { "deleted", deleted, 0 }, { "fromtmp", fromtmp, 0 },
	{ "patched", patched, 0 }, { "wxpage", wxpage, 0 }, { "sharedx", sharedx, 0 }, { "stackx", stackx, 0 },
	{ "heapx", heapx, 0 }, { "shmlib", shmlib, 0 }, { "gonelib", gonelib, 0 },
	{ "vdso", vdso, 0 }, { "devzero", devzero, 0 }, { "disguised", disguised, 0 }, { "remote", remote, 0 },
	{ "harmless", harmless, 0 },
	{ "typist", typist, 2 }, { "unread", unread, 0 }, { "keys", keys, 0 },
};

int main(int count, char **arguments)
{
	role = count > 1 ? arguments[1] : "";
	for (int i = 0; i < (int)(sizeof roles / sizeof *roles); i++)
		if (!strcmp(role, roles[i].name) && count - 2 >= roles[i].arguments) {
			prctl(PR_SET_NAME, role);
			roles[i].play(arguments + 2);
		}
	errno = EINVAL;
	die("role or its arguments");
	return 1;
}
