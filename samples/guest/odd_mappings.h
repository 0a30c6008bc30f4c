/* Executable memory that no file explains, and mappings that look like it. */

static void copy_itself(int to)
{
	char buffer[4096];
	ssize_t got;
	int from = checked(open("/proc/self/exe", O_RDONLY), "exe");

	while ((got = read(from, buffer, sizeof buffer)) > 0)
		checked(write(to, buffer, got), "write");
	close(from);
}

static int copy_at(const char *path)
{
	int file = checked(open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0755), path);

	copy_itself(file);
	close(file);
	return checked(open(path, O_RDONLY | O_CLOEXEC), path);
}

static void run_idle(const char *path)
{
	char *words[] = { "idle", "idle", (char *)role, NULL }, *nothing[] = { NULL };

	execve(path, words, nothing);
	die(path);
}

static void memfd(char **arguments)
{
	char path[64];
	int file = checked(syscall(SYS_memfd_create, "implant", 1 /* MFD_CLOEXEC */), "memfd_create");

	(void)arguments;
	copy_itself(file);
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	run_idle(path);
}

static void deleted(char **arguments)
{
	char path[64];
	int file = copy_at("/run/dropper");

	(void)arguments;
	unlink("/run/dropper");
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	run_idle(path);
}

static void fromtmp(char **arguments)
{
	(void)arguments;
	close(copy_at("/tmp/.hidden-tool"));
	run_idle("/tmp/.hidden-tool");
}

static void *mapped(size_t size, int protection, int flags, int file)
{
	void *page = mmap(NULL, size, protection, flags, file, 0);

	if (page == MAP_FAILED)
		die("mmap");
	return page;
}

static int target(int number)
{
	return number * 3 + 1;
}

/* A jump over the beginning of one of its own functions. */
static void patched(char **arguments)
{
	static const unsigned char jump[] = { 0xe9, 0x0b, 0xad, 0xc0, 0xde };
	char *page = (char *)((unsigned long)target & -PAGE);

	(void)arguments;
	checked(target(1), "target");
	checked(mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), "mprotect");
	memcpy((void *)target, jump, sizeof jump);
	checked(mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC), "mprotect");
	rest();
}

static void wxpage(char **arguments)
{
	char *page = mapped(2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	(void)arguments;
	memcpy(page + PAGE, waiting_code, sizeof waiting_code);
	rest();
}

static void sharedx(char **arguments)
{
	char *page = mapped(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	(void)arguments;
	memcpy(page, waiting_code, sizeof waiting_code);
	checked(mprotect(page, PAGE, PROT_READ | PROT_EXEC), "mprotect");
	rest();
}

static void stackx(char **arguments)
{
	unsigned char code[sizeof waiting_code];

	(void)arguments;
	memcpy(code, waiting_code, sizeof code);
	checked(mprotect((void *)((unsigned long)code & -PAGE), PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), "mprotect");
	rest();
}

static void heapx(char **arguments)
{
	unsigned long heap = syscall(SYS_brk, 0); /* musl's sbrk() refuses */
	char *page = (char *)((heap + PAGE - 1) & -PAGE);

	(void)arguments;
	if ((unsigned long)syscall(SYS_brk, page + 2 * PAGE) != (unsigned long)page + 2 * PAGE)
		die("brk");
	memcpy(page, waiting_code, sizeof waiting_code);
	checked(mprotect(page, PAGE, PROT_READ | PROT_EXEC), "mprotect");
	rest();
}

static void map_library(int file)
{
	volatile char *code = mapped(2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file);

	(void)*code;
	close(file);
}

static void shmlib(char **arguments)
{
	(void)arguments;
	map_library(copy_at("/dev/shm/libimplant.so"));
	rest();
}

static void gonelib(char **arguments)
{
	(void)arguments;
	map_library(copy_at("/run/libgone.so"));
	unlink("/run/libgone.so");
	rest();
}

/* Data in memory files, deleted files and /dev/shm; a page of code that was written to and is what it was. */
static void harmless(char **arguments)
{
	int data = syscall(SYS_memfd_create, "data", 0), shared;
	char *text = (char *)((unsigned long)target & -PAGE);
	volatile char *page;

	(void)arguments;
	checked(ftruncate(data, PAGE), "memfd");
	page = mapped(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, data);
	*page = 1;
	shared = copy_at("/dev/shm/data");
	page = mapped(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, shared);
	*page = 1;
	page = mapped(PAGE, PROT_READ, MAP_PRIVATE, copy_at("/run/gone"));
	unlink("/run/gone");
	mapped(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1); /* never touched */
	checked(mprotect(text, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), "mprotect");
	*(volatile char *)target = *(volatile char *)target;
	checked(mprotect(text, PAGE, PROT_READ | PROT_EXEC), "mprotect");
	rest();
}

/* The code that the kernel maps into each process, changed in this one; kernels since 7.0 may refuse. */
static void vdso(char **arguments)
{
	int memory = checked(open("/proc/self/mem", O_RDWR), "mem");
	unsigned long place = getauxval(AT_SYSINFO_EHDR) + 0xa00;

	(void)arguments;
	if (pwrite(memory, waiting_code, sizeof waiting_code, place) < 0 && errno != EIO)
		die("pwrite");
	close(memory);
	rest();
}

static void devzero(char **arguments)
{
	char *page = mapped(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, checked(open("/dev/zero", O_RDWR), "zero"));

	(void)arguments;
	memcpy(page, waiting_code, sizeof waiting_code);
	checked(mprotect(page, PAGE, PROT_READ | PROT_EXEC), "mprotect");
	rest();
}

static void disguised(char **arguments)
{
	(void)arguments;
	prctl(PR_SET_NAME, "kworker/0:7");
	rest();
}

/* A shell at the end of a connection, whose other end another process of that name has. */
static void remote(char **arguments)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(4444), .sin_addr = { htonl(0x7f000001) } };
	int listener = checked(socket(AF_INET, SOCK_STREAM, 0), "socket"), out = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");
	char *words[] = { "dash", "-s", NULL };

	(void)arguments;
	checked(bind(listener, (struct sockaddr *)&here, sizeof here), "bind");
	checked(listen(listener, 1), "listen");
	checked(connect(out, (struct sockaddr *)&here, sizeof here), "connect");
	if (!checked(fork(), "fork")) {
		checked(accept(listener, NULL, NULL), "accept");
		for (;;)
			pause();
	}
	for (int number = 0; number < 3; number++)
		dup2(out, number);
	close(out);
	close(listener);
	ready();
	execv("/usr/bin/dash", words);
	die("dash");
}
