/* The roles of the actor that have sockets. */

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

/* server TYPE HOST PORT: accept connections. One that its peer has shut is closed, unless bytes of it are unread (CLOSE_WAIT). */
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

/* backlog HOST PORT: listen and never accept. What connects is the kernel's alone: it belongs to no process. */
static void backlog(char **arguments)
{
	int fd = bound(SOCK_STREAM, arguments[0], atoi(arguments[1]));

	checked(listen(fd, 64), "listen");
	ready();
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

/* closer HOST PORT COUNT: connections that both sides close, this one first (TIME_WAIT here). */
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

/* loop HOST PORT COUNT: connections to itself, whose connecting side closes first (TIME_WAIT). */
static void loop(char **arguments)
{
	int listener = bound(SOCK_STREAM, arguments[0], atoi(arguments[1]));
	char byte;

	checked(listen(listener, 1), "listen");
	for (int i = atoi(arguments[2]); i > 0; i--) {
		int fd = connected(SOCK_STREAM, arguments[0], atoi(arguments[1]));
		int other = checked(accept(listener, NULL, NULL), "accept");

		close(fd);
		read(other, &byte, 1);
		close(other);
	}
	ready();
	_exit(0);
}

/* leaver HOST PORT: send a byte that the server never reads, then close (FIN_WAIT2 here, CLOSE_WAIT there). */
static void leaver(char **arguments)
{
	int fd = connected(SOCK_STREAM, arguments[0], atoi(arguments[1]));

	send(fd, "x", 1, 0);
	close(fd);
	ready();
	_exit(0);
}

/* caller HOST PORT: a connection to a host that does not answer (SYN_SENT). */
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
