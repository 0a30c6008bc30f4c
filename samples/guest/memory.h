/* The role of a process whose memory is of every kind: huge pages, shared, merged, locked, swapped out. */

#define PAGE 4096ul
#define HUGE (2ul << 20)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21	/* Linux 5.4 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23	/* Linux 5.14 */
#endif

/* Fill whole pages with numbers that are the same nowhere else. */
static void fill(char *start, size_t size)
{
	for (unsigned long *word = (unsigned long *)start; (char *)word < start + size; word++)
		*word = ((unsigned long)word * 0x9e3779b97f4a7c15ul) ^ (unsigned long)getpid();
}

/* Address space that begins at a huge page's boundary, with an unmapped page behind it. */
static char *aligned(size_t size, int protection, int flags, int fd)
{
	char *start = mmap(NULL, size + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *first;

	if (start == MAP_FAILED)
		die("address space");
	first = (char *)(((unsigned long)start + HUGE - 1) & -HUGE);
	munmap(start, first - start);
	munmap(first + size, start + size + 2 * HUGE - (first + size));
	if (mmap(first, size, protection, flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		die("mmap");
	return first;
}

static char *anonymous(size_t size)
{
	return aligned(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* Transparent huge pages; of the last the second half is given back, so that it is mapped by small ones. */
static void transparent(size_t size)
{
	char *start = anonymous(size + HUGE);

	madvise(start, size + HUGE, MADV_HUGEPAGE);
	fill(start, size + HUGE);
	munmap(start + size + HUGE / 2, HUGE / 4);
	mprotect(start + HUGE / 2, PAGE, PROT_READ);
}

/* The page of zeros as a huge one, small pages of zeros, and pages that were never touched. */
static void zeros(size_t size)
{
	char *start = anonymous(2 * size);
	volatile char sum = 0;

	madvise(start, size, MADV_HUGEPAGE);
	for (size_t at = 0; at < size; at += PAGE)
		sum += start[at];
	for (size_t at = size; at < 2 * size; at += 16 * PAGE)
		sum += start[at];
}

/* Shared memory, of huge pages where the kernel makes them; a child has it too. */
static void shared(size_t size)
{
	int fd = checked(syscall(SYS_memfd_create, "shared", 0), "memfd");

	checked(ftruncate(fd, size), "ftruncate");
	char *start = aligned(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	madvise(start, size, MADV_HUGEPAGE);
	fill(start, size - HUGE / 4);
	fill(anonymous(size), size / 2);
	if (!fork()) {
		close(READY_FD);
		rest();
	}
}

/* Pages of hugetlbfs, private and shared. */
static void hugetlb(size_t size)
{
	fill(aligned(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1), size);
	fill(aligned(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1), size / 2);
}

/* Pages that are alike, for ksmd to merge. */
static void merged(size_t size)
{
	char *start = anonymous(size);

	for (size_t at = 0; at < size; at += PAGE)
		memset(start + at, 'a' + at / PAGE % 3, PAGE);
	checked(madvise(start, size, MADV_MERGEABLE), "MADV_MERGEABLE");
}

static void locked(size_t size)
{
	char *start = anonymous(size);

	fill(start, size / 2);
	checked(mlock(start, size / 2), "mlock");
}

/* Of every eight pages five are to be swapped out, from huge pages too. */
static void swapped(size_t size)
{
	char *start = anonymous(size);

	madvise(start, size / 2, MADV_HUGEPAGE);
	madvise(start + size / 2, size / 2, MADV_NOHUGEPAGE);
	fill(start, size);
	for (size_t at = 0; at < size; at += 8 * PAGE)
		checked(madvise(start + at, 5 * PAGE, MADV_PAGEOUT), "MADV_PAGEOUT");
	start = anonymous(size);
	madvise(start, size, MADV_HUGEPAGE);
	fill(start, size);
	checked(madvise(start, size, MADV_PAGEOUT), "MADV_PAGEOUT");
}

/* A file, mapped privately; every other page was written to. */
static void copied(size_t size)
{
	int fd = checked(open("/usr/libexec/actor", O_RDONLY | O_CLOEXEC), "actor");
	char *start = aligned(size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);

	for (size_t at = 0; at < 16 * PAGE; at += 2 * PAGE)
		fill(start + at, PAGE);
}

/* Pages bound to either node of memory, and interleaved. */
static void nodes(size_t size)
{
	unsigned long first = 1, second = 2, both = 3;
	char *start = anonymous(4 * size);

	checked(syscall(SYS_mbind, start, size, 2 /* MPOL_BIND */, &second, 8, 0), "mbind");
	checked(syscall(SYS_mbind, start + size, size, 1 /* MPOL_PREFERRED */, &first, 8, 0), "mbind");
	checked(syscall(SYS_mbind, start + 2 * size, size, 3 /* MPOL_INTERLEAVE */, &both, 8, 0), "mbind");
	madvise(start, size / 2, MADV_HUGEPAGE);
	fill(start, 4 * size);
}

static const struct { const char *name; void (*make)(size_t); } kinds[] = {
	{ "transparent", transparent }, { "zeros", zeros }, { "shared", shared }, { "hugetlb", hugetlb },
	{ "merged", merged }, { "locked", locked }, { "swapped", swapped }, { "copied", copied }, { "nodes", nodes },
};

/* memory MIB KIND...: memory of these kinds, of so many MiB each. */
static void memory(char **arguments)
{
	size_t size = strtoul(arguments[0], NULL, 10) << 20;

	for (char **kind = arguments + 1; *kind; kind++) {
		int i = sizeof kinds / sizeof *kinds;

		while (i--)
			if (!strcmp(*kind, kinds[i].name))
				kinds[i].make(size);
	}
	ready();
	rest();
}
