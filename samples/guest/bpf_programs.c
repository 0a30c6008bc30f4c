/*
 * Loads eBPF programs of many types, hand-assembled, attaches and pins them, and stays to hold some of them.
 *
 *     bpf_programs FIFO CGROUP INTERFACE
 *
 * What a kernel lacks is left out: FIFO gets a line for each that is, and is closed when all is set up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct insn { uint8_t code, registers; int16_t offset; int32_t value; };

#define I(code, dst, src, offset, value) { code, (src) << 4 | (dst), offset, value }
#define MOV(dst, value) I(0xb7, dst, 0, 0, value)
#define COPY(dst, src) I(0xbf, dst, src, 0, 0)
#define ADD(dst, value) I(0x07, dst, 0, 0, value)
#define MAP(dst, fd) I(0x18, dst, 1, 0, fd), I(0, 0, 0, 0, 0)
#define CALL(helper) I(0x85, 0, 0, 0, helper)
#define STORE(offset, value) I(0x62, 10, 0, offset, value)
#define EXIT I(0x95, 0, 0, 0, 0)

enum { MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT, PROG_LOAD, OBJ_PIN, OBJ_GET, PROG_ATTACH };
enum { RAW_TRACEPOINT_OPEN = 17, BTF_LOAD = 18, MAP_FREEZE = 22, LINK_CREATE = 28 };
enum { SOCKET_FILTER = 1, KPROBE, SCHED_CLS, SCHED_ACT, TRACEPOINT, XDP, PERF_EVENT, CGROUP_SKB, CGROUP_SOCK };
enum { RAW_TRACEPOINT = 17, CGROUP_SOCK_ADDR = 18, TRACING = 26, LSM = 29, SK_LOOKUP = 30, NETFILTER = 32 };

static FILE *report;
static uint8_t btf_types[1 << 24];
static uint32_t btf_id_of_next;

static int bpf(int command, void *attributes)
{
	return syscall(SYS_bpf, command, attributes, 128);
}

static int noted(const char *what, int result)
{
	if (result < 0)
		fprintf(report, "%s: %s\n", what, strerror(errno));
	return result;
}

static void put32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }
static void put64(uint8_t *at, uint64_t value) { memcpy(at, &value, 8); }

static int map(const char *name, int type, int key, int value, int entries, int flags, int inner, int btf)
{
	uint8_t attributes[128] = { 0 };
	const int words[] = { type, key, value, entries, flags, inner };

	memcpy(attributes, words, sizeof words);
	strcpy((char *)attributes + 28, name);
	if (btf) {
		put32(attributes + 48, btf);
		put32(attributes + 52, 1);
		put32(attributes + 56, 3);
	}
	return noted(name, bpf(MAP_CREATE, attributes));
}

static int update(int fd, const void *key, const void *value)
{
	uint8_t attributes[128] = { 0 };

	put32(attributes, fd);
	put64(attributes + 8, (uintptr_t)key);
	put64(attributes + 16, (uintptr_t)value);
	return noted("update", bpf(MAP_UPDATE, attributes));
}

static int load(const char *name, int type, int expected, const struct insn *code, int count)
{
	static char log[1 << 16];
	uint8_t attributes[128] = { 0 };
	int fd;

	put32(attributes, type);
	put32(attributes + 4, count);
	put64(attributes + 8, (uintptr_t)code);
	put64(attributes + 16, (uintptr_t)"GPL");
	put32(attributes + 24, 1);
	put32(attributes + 28, sizeof log);
	put64(attributes + 32, (uintptr_t)log);
	strcpy((char *)attributes + 48, name);
	put32(attributes + 68, expected);
	put32(attributes + 108, btf_id_of_next);
	btf_id_of_next = 0;
	fd = noted(name, bpf(PROG_LOAD, attributes));
	if (fd < 0)
		fprintf(report, "%s", log);
	return fd;
}
#define LOAD(name, type, expected, ...) \
	({ const struct insn code[] = { __VA_ARGS__ }; load(name, type, expected, code, sizeof code / sizeof *code); })

static int pin(int fd, const char *path)
{
	uint8_t attributes[128] = { 0 };

	put64(attributes, (uintptr_t)path);
	put32(attributes + 8, fd);
	return noted(path, bpf(OBJ_PIN, attributes));
}

static int raw_tracepoint(const char *name, int program)
{
	uint8_t attributes[128] = { 0 };

	put64(attributes, (uintptr_t)name);
	put32(attributes + 8, program);
	return noted(name ? name : "trampoline", bpf(RAW_TRACEPOINT_OPEN, attributes));
}

static int link_to(const char *name, int program, int target, int kind, const uint32_t *more, int count)
{
	uint8_t attributes[128] = { 0 };

	put32(attributes, program);
	put32(attributes + 4, target);
	put32(attributes + 8, kind);
	memcpy(attributes + 16, more, 4 * count);
	return noted(name, bpf(LINK_CREATE, attributes));
}

static int attach(const char *name, int program, int target, int kind, int flags)
{
	uint8_t attributes[128] = { 0 };

	put32(attributes, target);
	put32(attributes + 4, program);
	put32(attributes + 8, kind);
	put32(attributes + 12, flags);
	return noted(name, bpf(PROG_ATTACH, attributes));
}

static long number_in(const char *path)
{
	FILE *file = fopen(path, "r");
	long number = -1;

	if (file && fscanf(file, "%ld", &number) != 1)
		number = -1;
	if (file)
		fclose(file);
	return number;
}

/* The id of a function in the kernel's own BTF, which is what a program that is called by it is loaded for. */
static uint32_t function_id(const char *wanted)
{
	static const uint8_t fixed[32] = { [1] = 4, [3] = 12, [14] = 4, [17] = 4 };
	static const uint8_t each[32] = { [4] = 12, [5] = 12, [6] = 8, [13] = 8, [15] = 12, [19] = 12 };
	static size_t size;
	const uint32_t *header = (const uint32_t *)btf_types;
	const uint8_t *at, *end;

	if (!size) {
		FILE *file = fopen("/sys/kernel/btf/vmlinux", "r");
		size = file ? fread(btf_types, 1, sizeof btf_types, file) : 1;
	}
	at = btf_types + header[1] + header[2];
	end = at + header[3];
	for (uint32_t id = 1; size > 24 && at < end; id++) {
		uint32_t words[3];
		memcpy(words, at, sizeof words);
		int kind = words[1] >> 24 & 31, count = words[1] & 0xffff;
		if (kind == 12 && !strcmp((char *)btf_types + header[1] + header[4] + words[0], wanted))
			return id;
		at += 12 + fixed[kind] + each[kind] * count;
	}
	return 0;
}

/* An event of perf_event_open(2): a kprobe or uprobe of its own, or a tracepoint. */
static int event(uint32_t type, uint64_t config, uint64_t name, uint64_t offset, int pid, int cpu)
{
	uint64_t attributes[16] = { type | 128ull << 32, config };

	attributes[2] = 1;
	attributes[7] = name;
	attributes[8] = offset;
	return noted("event", syscall(SYS_perf_event_open, attributes, pid, cpu, -1, 8));
}

static void run_on(int event, int program)
{
	noted("event runs a program", ioctl(event, 0x40042408, program));
	noted("event is enabled", ioctl(event, 0x2400, 0));
}

static int own_btf(void)
{
	static const char strings[] = "\0int\0__u64\0event\0pid\0cookie\0";
	uint32_t types[] = {
		1, 1 << 24, 4, 1 << 24 | 32, 5, 1 << 24, 8, 64, 11, 4 << 24 | 2, 16, 17, 1, 0, 21, 2, 64,
	};
	uint32_t header[] = { 0x0001eb9f, 24, 0, sizeof types, sizeof types, sizeof strings };
	uint8_t data[256], attributes[128] = { 0 };

	memcpy(data, header, 24);
	memcpy(data + 24, types, sizeof types);
	memcpy(data + 24 + sizeof types, strings, sizeof strings);
	put64(attributes, (uintptr_t)data);
	put32(attributes + 16, 24 + sizeof types + sizeof strings);
	return noted("btf", bpf(BTF_LOAD, attributes));
}

static int seen, inner;

static void make_maps(void)
{
	struct { int pid; int pad; uint64_t cookie; } value = { 7, 0, 0x1122334455667788 };
	uint8_t lpm[8] = { 24, 0, 0, 0, 10, 9, 8, 0 }, wide[8 * 64] = { 0 };
	int btf = own_btf(), fd, key = 1, number = 99, zero = 0;

	seen = map("seen", 1, 4, 16, 100, 0, 0, btf);
	for (int i = 0; i < 40; i++) {
		value.pid = 1000 + i;
		update(seen, &value.pid, &value);
	}
	pin(seen, "/sys/fs/bpf/kept/seen");
	fd = map("config", 2, 4, 16, 3, 0, 0, btf);
	update(fd, &key, &value);
	uint8_t frozen[128] = { 0 };
	put32(frozen, fd);
	noted("freeze", bpf(MAP_FREEZE, frozen));
	fd = map("per_cpu", 6, 4, 8, 2, 0, 0, 0);
	put64(wide, 4711);
	update(fd, &key, wide);
	map("per_cpu_hash", 5, 4, 8, 8, 0, 0, 0);
	fd = map("recent", 9, 4, 8, 16, 0, 0, 0);
	update(fd, &number, &value.cookie);
	fd = map("networks", 11, 8, 4, 16, 1, 0, 0);
	update(fd, lpm, &number);
	inner = map("inner", 2, 4, 4, 4, 0, 0, 0);
	fd = map("outer", 13, 4, 4, 4, 0, inner, 0);
	update(fd, &number, &inner);
	map("events", 27, 0, 0, 4096, 0, 0, 0);
	fd = map("queue", 22, 0, 8, 5, 0, 0, 0);
	update(fd, NULL, &value.cookie);
	map("perf", 4, 4, 4, 1, 0, 0, 0);
	map("stacks", 7, 4, 8 * 16, 8, 0, 0, 0);
	map("devices", 14, 4, 4, 4, 0, 0, 0);
	fd = map("calls", 3, 4, 4, 4, 0, 0, 0);
	int target = LOAD("tail", SOCKET_FILTER, 0, MOV(0, 0), EXIT);
	update(fd, &zero, &target);
	close(target); /* the map alone holds it */
}

static void tracing(void)
{
	int program, fd;
	long kprobe = number_in("/sys/bus/event_source/devices/kprobe/type");
	long uprobe = number_in("/sys/bus/event_source/devices/uprobe/type");
	long getdents = number_in("/sys/kernel/tracing/events/syscalls/sys_exit_getdents64/id");

	program = LOAD("spy_open", KPROBE, 0, CALL(14), I(0x77, 0, 0, 0, 32), I(0x63, 10, 0, -4, 0), COPY(2, 10), ADD(2, -4),
		MAP(1, seen), CALL(1), I(0x15, 0, 0, 1, 0), I(0x61, 0, 0, 0, 0), MOV(0, 0), EXIT);
	fd = event(kprobe, 0, (uintptr_t)"do_sys_openat2", 0, -1, 0);
	run_on(fd, program);
	close(program); /* the event holds it */
	fd = event(kprobe, 1, (uintptr_t)"do_sys_openat2", 0, -1, 0);
	run_on(fd, LOAD("after_open", KPROBE, 0, MOV(0, 0), EXIT));
	fd = event(uprobe, 0, (uintptr_t)"/usr/bin/dash", 0x5000, -1, 0);
	run_on(fd, LOAD("shell", KPROBE, 0, MOV(0, 0), EXIT));
	program = LOAD("hide_names", TRACEPOINT, 0, STORE(-8, 0), STORE(-4, 0), COPY(2, 10), ADD(2, -8), MOV(1, 0), MOV(3, 8),
		CALL(36), I(0x55, 0, 0, 2, 77), MOV(1, 9), CALL(109), MOV(0, 0), EXIT);
	fd = event(2, getdents, 0, 0, -1, 0);
	run_on(fd, program);
	program = LOAD("exec", RAW_TRACEPOINT, 0, CALL(5), I(0x7b, 10, 0, -8, 0), MOV(0, 0), EXIT);
	raw_tracepoint("sched_process_exec", program);
	btf_id_of_next = function_id("vfs_unlink");
	raw_tracepoint(NULL, LOAD("on_unlink", TRACING, 24, MOV(0, 0), EXIT));
	btf_id_of_next = function_id("bpf_lsm_file_open");
	raw_tracepoint(NULL, LOAD("file_open", LSM, 27, MOV(0, 0), EXIT));
	btf_id_of_next = function_id("bpf_iter_task");
	link_to("iterator", LOAD("tasks", TRACING, 28, MOV(0, 0), EXIT), 0, 28, NULL, 0);
	fd = event(kprobe, 0, (uintptr_t)"do_mkdirat", 0, -1, 0);
	link_to("perf link", LOAD("on_mkdir", KPROBE, 0, MOV(0, 0), EXIT), fd, 41, NULL, 0);
	static const char *names[] = { "do_rmdir" };
	uint64_t list = (uintptr_t)names;
	uint32_t multi[] = { 0, 1, list, list >> 32, 0, 0, 0, 0 };
	link_to("many", LOAD("many", KPROBE, 42, MOV(0, 0), EXIT), 0, 42, multi, 8);
}

static void network(const char *cgroup, int interface)
{
	int program, group = open(cgroup, O_RDONLY | O_DIRECTORY), fd = socket(AF_INET, SOCK_DGRAM, 0);

	program = LOAD("backdoor", SOCKET_FILTER, 0, COPY(6, 1), I(0x30, 0, 0, 0, 0), I(0x55, 0, 0, 2, 69), MOV(0, 0), EXIT,
		MOV(0, -1), EXIT);
	noted("socket", setsockopt(fd, SOL_SOCKET, 50, &program, sizeof program));
	LOAD("two_parts", SOCKET_FILTER, 0, I(0x85, 0, 1, 0, 1), EXIT, MOV(0, 5), EXIT);
	program = LOAD("xdp_drop", XDP, 0, I(0x61, 2, 1, 0, 0), I(0x61, 3, 1, 4, 0), COPY(4, 2), ADD(4, 14), I(0x2d, 4, 3, 4, 0),
		I(0x69, 5, 2, 12, 0), I(0xdc, 5, 0, 0, 16), I(0x55, 5, 0, 1, 0x88b5), MOV(0, 1), MOV(0, 2), EXIT);
	link_to("xdp", program, interface, 37, NULL, 0);
	program = LOAD("tc_mark", SCHED_CLS, 0, MOV(2, 0x1234), I(0x63, 1, 2, 8, 0), MOV(0, -1), EXIT);
	pin(program, "/sys/fs/bpf/kept/tc_mark");
	close(program); /* the file and the filter hold it */
	program = LOAD("egress", CGROUP_SKB, 1, MOV(0, 1), EXIT);
	fd = link_to("cgroup link", program, group, 1, NULL, 0);
	pin(fd, "/sys/fs/bpf/kept/egress_link");
	program = LOAD("new_socket", CGROUP_SOCK, 2, MOV(0, 1), EXIT);
	attach("cgroup", program, group, 2, 2);
	close(program); /* the group holds it */
	program = LOAD("connect", CGROUP_SOCK_ADDR, 10, MOV(2, 0x0100007f), I(0x63, 1, 2, 4, 0), MOV(0, 1), EXIT);
	attach("connect", program, group, 10, 0);
	close(program);
	fd = open("/proc/self/ns/net", O_RDONLY);
	link_to("sk_lookup", LOAD("lookup", SK_LOOKUP, 36, MOV(0, 1), EXIT), fd, 36, NULL, 0);
	uint32_t hook[] = { 2, 1, 77, 0 }, first[] = { 0, 0, 0, 0 };
	link_to("netfilter", LOAD("hook", NETFILTER, 45, MOV(0, 1), EXIT), 0, 45, hook, 4);
	link_to("tcx", LOAD("tcx_mark", SCHED_CLS, 46, MOV(0, -1), EXIT), interface, 46, first, 4);
}

int main(int count, char **words)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_MEMLOCK, &all); /* before 5.11 maps and programs are charged to it */
	if (count < 4 || !(report = fopen(words[1], "w")))
		return 1;
	setvbuf(report, NULL, _IOLBF, 0);
	make_maps();
	tracing();
	network(words[2], if_nametoindex(words[3]));
	fclose(report);
	for (;;)
		pause();
}
