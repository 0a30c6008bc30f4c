/* The roles of the actor that are processes and threads of an unusual kind or state. */

static pthread_barrier_t named;

static void *thread(void *name)
{
	prctl(PR_SET_NAME, name);
	pthread_barrier_wait(&named);
	rest();
	return NULL;
}

/* threads COUNT NAME: set up when each thread has its name. */
static void threads(char **arguments)
{
	int count = atoi(arguments[0]);

	pthread_barrier_init(&named, NULL, count + 1);
	for (int i = 0; i < count; i++) {
		pthread_t id;
		char name[64];

		snprintf(name, sizeof name, "%s-%d", arguments[1], i);
		if (pthread_create(&id, NULL, thread, strdup(name)))
			die("thread");
	}
	pthread_barrier_wait(&named);
	ready();
	rest();
}

/* zombie STATUS: a child whose parent never waits for it. */
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

/* traced: a child stopped under ptrace. */
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
