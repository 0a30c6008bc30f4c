/*
 * Sockets of every family that a kernel may have, and unix sockets whose names are chosen to confuse whoever
 * reads them as text. Says "ready" on standard output when all are there, and rests.
 *
 * A family that the kernel lacks is left out.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME(text) { text, sizeof text - 1 }

static const struct { const char *name; int size; } names[] = {
	/* a line as /proc/net/unix has it: a socket that does not exist, in three forms */
	NAME("\0x\n0000000000000000: 00000002 00000000 00010000 0001 01 424242 /run/forged"),
	NAME("\0\n0000000000000000: 00000002 00000000 00010000 0001 01     1 @forged"),
	NAME("/run/a\n00000000000000ff: 00000003 00000000 00000000 0001 03 424243"),
	NAME("\0\n"), NAME("\0ends in\n"), NAME("\0\n\n\n"), NAME("/run/line\nbreak"),
	NAME("\0tab\there"), NAME("\0nul\0in the middle"), NAME("\0nuls\0\0\0"), NAME("\0\0two"), NAME("\0@at"),
	NAME("\0\xff\xfe\x80 bytes"), NAME("\0caf\xc3\xa9 \xe2\x80\xae" "desrever"), NAME("\0\x1b[2J\x1b[31m\r\x07\x7f"),
	NAME("\0 blanks  "), NAME("\0 424244"), NAME("\0"),
	NAME("\0a name of all the bytes that fit .....................................................................xyz"),
};

static int named(int type, const char *name, int size)
{
	struct sockaddr_un here = { AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	memcpy(here.sun_path, name, size);
	umask(0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&here, offsetof(struct sockaddr_un, sun_path) + size + (*name == '/'))) {
		perror("bind");
		exit(1);
	}
	return fd;
}

static int reach(int type, const char *name, int size)
{
	struct sockaddr_un there = { AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	memcpy(there.sun_path, name, size);
	if (connect(fd, (struct sockaddr *)&there, offsetof(struct sockaddr_un, sun_path) + size + (*name == '/')))
		perror("connect");
	return fd;
}

/* unix sockets: nasty names, pairs, a listener with connections accepted and not, unread data, nothing at all */
static void unix_sockets(void)
{
	int pair[2], listener, count = sizeof names / sizeof *names, bare;

	for (int i = 0; i < count; i++) {
		int fd = named(i % 3 == 1 ? SOCK_DGRAM : SOCK_STREAM, names[i].name, names[i].size);
		if (i % 3 == 0)
			listen(fd, 4 + i);
	}
	listener = named(SOCK_STREAM, "\0queue\nof", 9);
	listen(listener, 5);
	for (int i = 0; i < 3; i++)
		send(reach(SOCK_STREAM, "\0queue\nof", 9), "unread", 6, 0);
	accept(listener, NULL, NULL);
	reach(SOCK_DGRAM, names[1].name, names[1].size);
	socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
	send(pair[0], "twelve bytes", 12, 0);
	socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
	bare = socket(AF_UNIX, SOCK_STREAM, 0);
	(void)bare;
	bare = socket(AF_UNIX, SOCK_DGRAM, 0);
	bind(bare, (struct sockaddr *)&(struct sockaddr_un){ AF_UNIX }, sizeof(sa_family_t));	/* a name of the kernel's choice */
}

static int inet_socket(int type, int protocol, const char *host, int port, int listens)
{
	struct sockaddr_in here = { AF_INET, htons(port) };
	int one = 1, fd = socket(AF_INET, type, protocol);

	if (fd < 0)
		return fd;
	inet_pton(AF_INET, host, &here.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&here, sizeof here) || (listens && listen(fd, 7)))
		perror("bind");
	return fd;
}

static int inet_reach(int type, int protocol, const char *host, int port)
{
	struct sockaddr_in there = { AF_INET, htons(port) };
	int fd = socket(AF_INET, type, protocol);

	inet_pton(AF_INET, host, &there.sin_addr);
	if (fd >= 0) {
		fcntl(fd, F_SETFL, O_NONBLOCK);
		connect(fd, (struct sockaddr *)&there, sizeof there);
	}
	return fd;
}

/* lawful sockets that no table lists, or that no process holds */
static void never_bound(void)
{
	socket(AF_INET, SOCK_STREAM, 0);
	socket(AF_INET, SOCK_DGRAM, 0);
	socket(AF_INET6, SOCK_STREAM, 0);
	socket(AF_INET6, SOCK_DGRAM, 0);
	inet_socket(SOCK_STREAM, 0, "127.0.0.1", 4100, 0);	/* bound, and neither listens nor is connected */
	inet_reach(SOCK_STREAM, 0, "10.4.0.99", 443);		/* nobody answers: SYN_SENT */
	inet_reach(SOCK_DGRAM, 0, "127.0.0.1", 4101);
}

struct vm_address { sa_family_t family; unsigned short zero; unsigned int port, cid; unsigned char zeros[4]; };
struct tipc_address { unsigned short family; unsigned char type; signed char scope; unsigned int words[3]; };

static void other_families(void)
{
	struct vm_address here = { 40, 0, 4200, -1U }, there = { 40, 0, 4200, 1 };
	struct tipc_address service = { 30, 1, 2, { 18888, 17, 17 } };
	int fd, sctp = inet_socket(SOCK_STREAM, 132, "127.0.0.1", 4300, 1);

	if (sctp >= 0) {
		fd = socket(AF_INET, SOCK_STREAM, 132);
		connect(fd, (struct sockaddr *)&(struct sockaddr_in){ AF_INET, htons(4300), { htonl(0x7f000001) } }, 16);
		accept(sctp, NULL, NULL);
		inet_socket(SOCK_SEQPACKET, 132, "127.0.0.1", 4301, 1);
	}
	fd = inet_socket(SOCK_STREAM, 262, "127.0.0.1", 4400, 1);	/* MPTCP */
	if (fd >= 0) {
		inet_reach(SOCK_STREAM, 262, "127.0.0.1", 4400);
		accept(fd, NULL, NULL);
	}
	fd = socket(40, SOCK_STREAM, 0);	/* vsock */
	if (fd >= 0) {
		if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 3))
			perror("vsock");
		int other = socket(40, SOCK_STREAM, 0);
		fcntl(other, F_SETFL, O_NONBLOCK);
		connect(other, (struct sockaddr *)&there, sizeof there);
	}
	fd = socket(44, SOCK_RAW, 0);		/* XDP */
	fd = socket(30, SOCK_SEQPACKET, 0);	/* TIPC */
	if (fd >= 0) {
		if (bind(fd, (struct sockaddr *)&service, sizeof service))
			perror("tipc");
		listen(fd, 0);
		socket(30, SOCK_RDM, 0);
	}
	fd = socket(43, SOCK_STREAM, 0);	/* SMC */
	inet_socket(SOCK_DGRAM, 136, "127.0.0.1", 4500, 0);	/* UDP-Lite */
	inet_socket(SOCK_RAW, 89, "127.0.0.1", 0, 0);
	socket(AF_PACKET, SOCK_DGRAM, htons(0x88cc));
	socket(AF_NETLINK, SOCK_RAW, 16);
	socket(AF_NETLINK, SOCK_DGRAM, 15);
	socket(38, SOCK_SEQPACKET, 0);		/* AF_ALG */
}

int main(void)
{
	unix_sockets();
	never_bound();
	other_families();
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
