/* The walks through /proc and /sys: whole folders, and the given files of every process. */

#define MAX_RULES 128
#define MAX_DEPTH 12

struct kernel_dirent { uint64_t ino; int64_t off; uint16_t size; uint8_t type; char name[]; };

static const char *skipped[MAX_RULES], *skipped_names[MAX_RULES], *leader_names[MAX_RULES];
static int n_skipped, n_skipped_names, n_leader_names;
static char own_pid[16];

static int listed(const char *const *list, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(list[i], name))
			return 1;
	return 0;
}

static int is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

static ino_t networks[64];
static int n_networks;

/* Whether a process (/proc/PID) is in a network namespace that this pass has not seen yet. */
static int new_network(const char *process)
{
	char name[MAX_PATH];
	struct stat status;

	snprintf(name, sizeof name, "%s/ns/net", process);
	if (n_networks == 64 || stat(name, &status))
		return 0;
	for (int i = 0; i < n_networks; i++)
		if (networks[i] == status.st_ino)
			return 0;
	networks[n_networks++] = status.st_ino;
	return 1;
}

/*
 * Record everything below PATH, links not followed: files as KIND, and folders and links too in the first pass.
 * Below /proc the observer itself is left out, a thread's folder is read in full only if it is not its process's
 * first, and /proc/PID/net only once for each network namespace but the observer's (that is /proc/net).
 */
static void walk(const char *path, int kind, int depth)
{
	/* A listing is kept at a folder's own depth while its entries are read. */
	static char lists[MAX_DEPTH][READ_SIZE];
	char *list = lists[depth], child[MAX_PATH];
	struct record *record = NULL;
	const char *parent = strrchr(path, '/') + 1;
	const char *owner = strstr(path, "/task/");
	int leader = 0, fd;
	long size;

	if (owner && !strcmp(owner + 6, parent)) {	/* /proc/PID/task/TID */
		long length = strlen(parent);
		leader = owner - path > length && !strncmp(owner - length, parent, length) && owner[-length - 1] == '/';
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (kind == 'e') {
		record = begin('d', path);
		if (fd < 0) {
			end(record, errno);
			return;
		}
		/* The names alone, one a line, on a walk of its own through the folder. */
		while ((size = syscall(SYS_getdents64, fd, list, READ_SIZE)) > 0)
			for (long next = 0; next < size && limit - at > READ_SIZE;) {
				struct kernel_dirent *entry = (void *)(list + next);
				if (strcmp(entry->name, ".") && strcmp(entry->name, "..")) {
					append(entry->name, strlen(entry->name));
					append("\n", 1);
				}
				next += entry->size;
			}
		end(record, size < 0 ? errno : 0);
		lseek(fd, 0, SEEK_SET);
	}
	while (fd >= 0 && (size = syscall(SYS_getdents64, fd, list, READ_SIZE)) > 0)
		for (long next = 0; next < size;) {
			struct kernel_dirent *entry = (void *)(list + next);
			const char *name = entry->name;

			next += entry->size;
			if (!strcmp(name, ".") || !strcmp(name, "..") || listed(skipped_names, n_skipped_names, name))
				continue;
			if (leader && !listed(leader_names, n_leader_names, name))
				continue;
			if (!strcmp(path, "/proc") && !strcmp(name, own_pid))
				continue;
			if (snprintf(child, sizeof child, "%s/%s", path, name) >= (int)sizeof child)
				continue;
			if (listed(skipped, n_skipped, child))
				continue;
			if (entry->type == DT_REG)
				record_file(kind, child);
			else if (entry->type == DT_LNK && kind == 'e')
				record_link(child);
			else if (entry->type == DT_DIR && depth + 1 < MAX_DEPTH) {
				if (!strcmp(name, "net") && is_number(parent) && (owner || !new_network(path)))
					continue;
				walk(child, kind, depth + 1);
			}
		}
	if (fd >= 0)
		close(fd);
}

static void tree(const char *path, int kind)
{
	n_networks = 0;
	new_network("/proc/self");
	walk(path, kind, 0);
}

/*
 * Call USE with the path of each of the given files of every process and thread, the observer's own too. The first
 * thread's folder (/proc/PID/task/PID) holds what /proc/PID does: it is visited if LEADERS is set.
 */
static void each_process_file(char *names, int leaders, void (*use)(const char *path))
{
	char path[MAX_PATH], *list[MAX_RULES];
	int count = 0;
	DIR *processes = opendir("/proc"), *threads;
	struct dirent *process, *thread;

	for (char *name = strtok(names, " "); name && count < MAX_RULES; name = strtok(NULL, " "))
		list[count++] = name;
	while (processes && (process = readdir(processes))) {
		if (!is_number(process->d_name))
			continue;
		for (int i = 0; i < count; i++) {
			snprintf(path, sizeof path, "/proc/%s/%s", process->d_name, list[i]);
			use(path);
		}
		snprintf(path, sizeof path, "/proc/%s/task", process->d_name);
		threads = opendir(path);
		while (threads && (thread = readdir(threads))) {
			if (!is_number(thread->d_name) || (!leaders && !strcmp(thread->d_name, process->d_name)))
				continue;
			for (int i = 0; i < count; i++) {
				snprintf(path, sizeof path, "/proc/%s/task/%s/%s", process->d_name, thread->d_name, list[i]);
				use(path);
			}
		}
		if (threads)
			closedir(threads);
	}
	if (processes)
		closedir(processes);
}

static void record_late(const char *path)
{
	record_file('l', path);
}
