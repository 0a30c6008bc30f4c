/*
 * PID 1 of a guest with sockets in which messages without content wait, and what an end of a stream looks like. It says
 * on the console when they wait.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "first_process.h"

/* Descriptors: 10 receives datagrams, 11 packets in sequence, 12 a stream whose other end is closed, 13 UDP. */
int main(void)
{
	struct sockaddr_in address = { AF_INET, htons(4000), { htonl(INADDR_LOOPBACK) } };
	int ends[2];

	mkdir("/proc", 0555);
	mount("proc", "/proc", "proc", 0, NULL);

	socketpair(AF_UNIX, SOCK_DGRAM, 0, ends);
	dup2(ends[0], 10);
	send(ends[1], "first", 5, 0);
	send(ends[1], "", 0, 0);
	send(ends[1], "", 0, 0);
	send(ends[1], "behind", 6, 0);

	socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends);
	dup2(ends[0], 11);
	send(ends[1], "", 0, 0);
	send(ends[1], "packet", 6, 0);
	close(ends[1]);

	socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
	dup2(ends[0], 12);
	close(ends[1]);

	ends[0] = socket(AF_INET, SOCK_DGRAM, 0);
	dup2(ends[0], 13);
	loopback_up(13);
	bind(13, (struct sockaddr *)&address, sizeof address);
	sendto(13, "", 0, 0, (struct sockaddr *)&address, sizeof address);
	sendto(13, "udp", 3, 0, (struct sockaddr *)&address, sizeof address);

	dprintf(1, "hb: ready\n");
	for (;;)
		pause();
}
