/* The roles of the actor that have open files, memory, System V IPC or a terminal. */

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
