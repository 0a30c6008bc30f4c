/*
 * What processes have in memory, as checksums: /proc/PID/mem of those pages that /proc/PID/pagemap shows present. Others
 * are not read: reading would bring them in.
 */

#define PAGE 4096ul
#define HUGE (2ul << 20)
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)

static uint32_t crc_table[256];

/* CRC-32 as zlib has it, carried on from `crc`. */
static uint32_t crc32(uint32_t crc, const uint8_t *data, size_t size)
{
	if (!crc_table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t value = i;
			for (int bit = 0; bit < 8; bit++)
				value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
			crc_table[i] = value;
		}
	crc = ~crc;
	while (size--)
		crc = crc >> 8 ^ crc_table[(crc ^ *data++) & 0xff];
	return ~crc;
}

/* Append a line for the pages of [START, END), which are in one state: their checksum, "swapped", or why they cannot be read. */
static void append_run(int fd, unsigned long start, unsigned long end, uint64_t state)
{
	static uint8_t page[PAGE];
	char line[96], what[32] = "swapped";
	uint32_t crc = 0;

	if (!state || limit - at < 2 * READ_SIZE)
		return;
	for (unsigned long vaddr = start; state == PRESENT && vaddr < end; vaddr += PAGE) {
		if (pread(fd, page, PAGE, vaddr) != PAGE) {
			snprintf(what, sizeof what, "errno%d", errno);
			break;
		}
		crc = crc32(crc, page, PAGE);
		snprintf(what, sizeof what, "%08x", crc);
	}
	append(line, snprintf(line, sizeof line, "%lx-%lx %s\n", start, end, what));
}

static void record_memory(const char *process)
{
	static uint64_t entries[HUGE / PAGE];
	char path[MAX_PATH], line[MAX_PATH];
	int mem, pagemap;
	struct record *record;
	unsigned long first, last;
	FILE *maps;

	snprintf(path, sizeof path, "%s/maps", process);
	maps = fopen(path, "re");
	snprintf(path, sizeof path, "%s/pagemap", process);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof path, "%s/mem", process);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	record = begin('m', path);
	while (maps && fgets(line, sizeof line, maps)) {
		if (sscanf(line, "%lx-%lx", &first, &last) != 2 || first >> 63 || strstr(line, "[vvar"))
			continue;
		for (unsigned long next, block = first; block < last; block = next) {
			next = (block | (HUGE - 1)) + 1 < last ? (block | (HUGE - 1)) + 1 : last;
			unsigned long start = block, pages = (next - block) / PAGE;
			uint64_t state = 0, here;

			if (pread(pagemap, entries, pages * 8, block / PAGE * 8) != (ssize_t)(pages * 8))
				continue;
			for (unsigned long i = 0; i <= pages; i++) {
				here = i == pages ? 0 : entries[i] & PRESENT ? PRESENT : entries[i] & SWAPPED;
				if (i == pages || here != state) {
					append_run(mem, start, block + i * PAGE, state);
					start = block + i * PAGE;
					state = here;
				}
			}
		}
	}
	end(record, maps ? 0 : errno);
	if (maps)
		fclose(maps);
	close(pagemap);
	close(mem);
}

/* Record the memory of every process whose comm is NAME. */
static void each_process_memory(const char *name)
{
	char path[MAX_PATH], comm[64];
	DIR *processes = opendir("/proc");
	struct dirent *process;

	while (processes && (process = readdir(processes))) {
		if (!is_number(process->d_name))
			continue;
		snprintf(path, sizeof path, "/proc/%s/comm", process->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t got = fd < 0 ? 0 : read(fd, comm, sizeof comm);
		close(fd);
		if (got != (ssize_t)strlen(name) + 1 || strncmp(comm, name, got - 1))
			continue;
		snprintf(path, sizeof path, "/proc/%s", process->d_name);
		record_memory(path);
	}
	if (processes)
		closedir(processes);
}
