/* Code put into other processes by ptrace(2). */

static void poke(pid_t pid, unsigned long at, const void *bytes, size_t size)
{
	for (size_t done = 0; done < size; done += sizeof(long)) {
		long word = ptrace(PTRACE_PEEKTEXT, pid, at + done, 0);

		memcpy(&word, (const char *)bytes + done, size - done < sizeof word ? size - done : sizeof word);
		checked(ptrace(PTRACE_POKETEXT, pid, at + done, word), "poke");
	}
}

static void wait_for_stop(pid_t pid)
{
	int status;

	checked(waitpid(pid, &status, 0), "waitpid");
	if (!WIFSTOPPED(status)) {
		errno = ESRCH;
		die("the victim ended");
	}
}

/* Have the process make a system call by an instruction at an address, which is as it was afterwards. */
static unsigned long call(pid_t pid, unsigned long at, long number, unsigned long a, unsigned long b,
			  unsigned long c, unsigned long d, unsigned long e)
{
	static const unsigned char code[8] = { 0x0f, 0x05, 0xcc };
	struct user_regs_struct before, regs;
	long text = ptrace(PTRACE_PEEKTEXT, pid, at, 0);

	checked(ptrace(PTRACE_GETREGS, pid, 0, &before), "getregs");
	poke(pid, at, code, sizeof code);
	regs = before;
	regs.rip = at;
	regs.rax = number;
	regs.orig_rax = -1;
	regs.rdi = a, regs.rsi = b, regs.rdx = c, regs.r10 = d, regs.r8 = e, regs.r9 = 0;
	checked(ptrace(PTRACE_SETREGS, pid, 0, &regs), "setregs");
	checked(ptrace(PTRACE_CONT, pid, 0, 0), "cont");
	wait_for_stop(pid);
	checked(ptrace(PTRACE_GETREGS, pid, 0, &regs), "getregs");
	poke(pid, at, &text, sizeof text);
	checked(ptrace(PTRACE_SETREGS, pid, 0, &before), "setregs");
	if (regs.rax > -PAGE) {
		errno = -regs.rax;
		die("a call in the victim");
	}
	return regs.rax;
}

static unsigned long map_code(pid_t pid, unsigned long at, unsigned long where, unsigned long size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0);

	return call(pid, at, SYS_mmap, where, size, PROT_READ | PROT_EXEC, flags, -1);
}

/* inject PID: a page of code that the victim does not run; it sleeps on. */
static void inject(char **arguments)
{
	pid_t pid = atoi(arguments[0]);
	struct user_regs_struct regs;
	unsigned long page;

	checked(ptrace(PTRACE_ATTACH, pid, 0, 0), "attach");
	wait_for_stop(pid);
	checked(ptrace(PTRACE_GETREGS, pid, 0, &regs), "getregs");
	page = map_code(pid, regs.rip, 0, PAGE);
	poke(pid, page, waiting_code, sizeof waiting_code);
	checked(ptrace(PTRACE_DETACH, pid, 0, 0), "detach");
	ready();
	_exit(0);
}

static void text_of(pid_t pid, const char *program, unsigned long *start, unsigned long *end)
{
	char path[64], line[512], permissions[8], name[256];
	FILE *maps;

	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	while (fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", start, end, permissions, name) == 4 &&
		    permissions[2] == 'x' && !strcmp(name, program)) {
			fclose(maps);
			return;
		}
	errno = ENOENT;
	die(program);
}

/* hollow PROGRAM: it is started, its text is unmapped, and other code runs there under its name. */
static void hollow(char **arguments)
{
	unsigned long start, end, stub;
	struct user_regs_struct regs;
	pid_t pid = checked(fork(), "fork");

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execl(arguments[0], arguments[0], "1000000", NULL);
		die(arguments[0]);
	}
	wait_for_stop(pid);
	text_of(pid, arguments[0], &start, &end);
	checked(ptrace(PTRACE_GETREGS, pid, 0, &regs), "getregs");
	stub = map_code(pid, regs.rip, 0, PAGE);
	call(pid, stub, SYS_munmap, start, end - start, 0, 0, 0);
	map_code(pid, stub, start, end - start);
	call(pid, start, SYS_munmap, stub, PAGE, 0, 0, 0);
	poke(pid, start, waiting_code, sizeof waiting_code);
	checked(ptrace(PTRACE_GETREGS, pid, 0, &regs), "getregs");
	regs.rip = start;
	regs.orig_rax = -1;
	checked(ptrace(PTRACE_SETREGS, pid, 0, &regs), "setregs");
	checked(ptrace(PTRACE_DETACH, pid, 0, 0), "detach");
	ready();
	_exit(0);
}
