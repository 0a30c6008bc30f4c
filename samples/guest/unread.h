/* Data that was sent and that nobody has read yet; keys. */

static void send_to(int file, const char *text)
{
	checked(write(file, text, strlen(text)), text);
}

static void send_descriptor(int socket)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec part = { "with a descriptor", 17 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof control };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	*(int *)CMSG_DATA(head) = socket;
	checked(sendmsg(socket, &message, 0), "sendmsg");
}

static void internet(int kind, int port, const char *text)
{
	struct sockaddr_in address = { AF_INET, htons(port), { htonl(INADDR_LOOPBACK) } };
	int server = checked(socket(AF_INET, kind, 0), "socket"), client = socket(AF_INET, kind, 0);

	checked(bind(server, (void *)&address, sizeof address), "bind");
	if (kind == SOCK_STREAM)
		checked(listen(server, 1), "listen");
	checked(connect(client, (void *)&address, sizeof address), "connect");
	if (kind == SOCK_STREAM)
		checked(accept(server, NULL, NULL), "accept");
	send_to(client, text);
}

static void terminals(void)
{
	int master, slave;
	struct termios mode;

	checked(openpty(&master, &slave, NULL, NULL, NULL), "openpty");
	checked(tcgetattr(slave, &mode), "tcgetattr");
	mode.c_lflag &= ~ECHO;
	checked(tcsetattr(slave, TCSANOW, &mode), "tcsetattr");
	send_to(slave, "shown to nobody\n");
	send_to(master, "typed ahead\n");
}

static void message_queues(void)
{
	struct { long type; char text[32]; } message = { 7, "a System V message" };
	struct { long flags, most, size, count, rest[4]; } attributes = { 0, 8, 64, 0 };
	int queue = checked(msgget(0x5359, IPC_CREAT | 0600), "msgget"), mq;

	checked(msgsnd(queue, &message, strlen(message.text), 0), "msgsnd");
	message.type = 8;
	strcpy(message.text, "another one");
	checked(msgsnd(queue, &message, strlen(message.text), 0), "msgsnd");
	mq = checked(syscall(SYS_mq_open, "spied", O_CREAT | O_RDWR, 0600, &attributes), "mq_open");
	checked(syscall(SYS_mq_timedsend, mq, "a POSIX message", 15, 3, NULL), "mq_timedsend");
	checked(syscall(SYS_mq_timedsend, mq, "an urgent one", 13, 9, NULL), "mq_timedsend");
}

static void unread(char **arguments)
{
	int ends[2];

	(void)arguments;
	checked(pipe(ends), "pipe");
	send_to(ends[1], "left in a pipe");
	send_to(ends[1], ", in two parts");
	checked(pipe(ends), "pipe"); /* empty */
	checked(mkfifo("/run/fifo", 0600), "mkfifo");
	send_to(checked(open("/run/fifo", O_RDWR), "fifo"), "left in a fifo");
	checked(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
	send_to(ends[0], "left in a stream");
	checked(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), "socketpair");
	send_to(ends[0], "first datagram");
	send_to(ends[0], "second datagram");
	send_descriptor(ends[0]);
	internet(SOCK_STREAM, 4501, "left in tcp");
	internet(SOCK_DGRAM, 4502, "left in udp");
	terminals();
	message_queues();
	rest();
}

static int add_key(const char *type, const char *description, const char *payload, int ring)
{
	return checked(syscall(SYS_add_key, type, description, payload, strlen(payload), ring), description);
}

/* A session of its own with keys that only the kernel knows. */
static void keys(char **arguments)
{
	enum { JOIN_SESSION_KEYRING = 1, SET_TIMEOUT = 15, REVOKE = 3, SESSION = -3, USER = -4 };

	(void)arguments;
	if (!checked(fork(), "fork")) { /* keys that root may not see in /proc/keys */
		checked(setuid(1000), "setuid");
		add_key("user", "other:token", "token of user 1000", USER);
		for (;;)
			pause();
	}
	while (system("grep -q '^ *1000:' /proc/key-users"))
		usleep(100000);
	checked(syscall(SYS_keyctl, JOIN_SESSION_KEYRING, "spies"), "session");
	add_key("user", "spy:token", "token-of-the-spy", SESSION);
	add_key("logon", "spy:logon", "logon-secret", SESSION);
	add_key("user", "spy:user", "payload of the user ring", USER);
	checked(syscall(SYS_keyctl, SET_TIMEOUT, add_key("user", "spy:timed", "for a day", SESSION), 86400), "timeout");
	checked(syscall(SYS_keyctl, REVOKE, add_key("user", "spy:revoked", "forgotten", SESSION)), "revoke");
	rest();
}
