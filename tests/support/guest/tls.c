/*
 * PID 1 of a guest whose kernel encrypts TLS: it loads the modules of /m, gives keys to sockets, and says so on the
 * console. The keys are those of tests/support/tls_guest.py.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "first_process.h"

#define ULP 31		/* TCP_ULP, include/uapi/linux/tcp.h */
#define SOL_TLS_ 282	/* include/linux/socket.h */
#define TX 1		/* include/uapi/linux/tls.h */
#define RX 2
#define TLS_1_2 0x0303
#define TLS_1_3 0x0304
#define AES_GCM_128 51
#define AES_GCM_256 52
#define CHACHA20_POLY1305 54

static void connected(int port, int ends[2])
{
	struct sockaddr_in address = { AF_INET, htons(port), { htonl(INADDR_LOOPBACK) } };
	int server = socket(AF_INET, SOCK_STREAM, 0);

	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(server, (void *)&address, sizeof address) || listen(server, 1) ||
	    connect(ends[0], (void *)&address, sizeof address))
		say("no connection");
	ends[1] = accept(server, NULL, NULL);
	close(server);
}

/* version, cipher, then initialization vector, key, salt and record number, as include/uapi/linux/tls.h has them */
static void give_keys(int ends[2], int version, int cipher, int size)
{
	unsigned char given[64];
	int i;

	for (i = 4; i < 64; i++)
		given[i] = cipher + i;
	given[0] = version;
	given[1] = version >> 8;
	given[2] = cipher;
	given[3] = 0;
	memset(given + size - 8, 0, 8);
	for (i = 0; i < 2; i++)
		if (setsockopt(ends[i], IPPROTO_TCP, ULP, "tls", 4) ||
		    setsockopt(ends[i], SOL_TLS_, i ? RX : TX, given, size))
			say("no TLS");
}

int main(void)
{
	int first[2], second[2], third[2], plain[2], lo = socket(AF_INET, SOCK_DGRAM, 0);
	char read_back[16];

	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	load_modules();
	loopback_up(lo);
	close(lo);
	if (!fork()) {
		prctl(PR_SET_NAME, "tls_client");
		connected(4431, first);
		connected(4432, second);
		connected(4433, third);
		connected(4434, plain);
		give_keys(first, TLS_1_2, AES_GCM_128, 40);
		give_keys(second, TLS_1_3, AES_GCM_256, 56);
		give_keys(third, TLS_1_3, CHACHA20_POLY1305, 56);
		if (setsockopt(plain[0], IPPROTO_TCP, ULP, "tls", 4))	/* and no key */
			say("no TLS");
		write(first[0], "one", 3);
		write(first[0], "two", 3);
		read(first[1], read_back, 3);
		errno = 0;
		say("ready");
		for (;;)
			pause();
	}
	for (;;)
		pause();
}
