/* --- functions in objects of all kinds: registered, or in a copy of an object's table of operations -------------------- */

static int on_any(void)
{
	hits++;
	return 0;
}

static int on_refused(void)
{
	return -19; /* ENODEV */
}

static char *descriptor(const char *name, int number)
{
	char *task = process(name), *table;

	if (!task)
		return 0;
	table = FIELD(char *, FIELD(void *, task, AT(task_struct, files)), AT(files_struct, fdt));
	return FIELD(char **, table, AT(fdtable, fd))[number];
}

static char own_lines[SIZE(seq_operations)] ALIGNED, own_names[SIZE(dentry_operations)] ALIGNED;
static char own_pages[SIZE(vm_operations_struct)] ALIGNED, own_class[SIZE(sched_class)] ALIGNED;

/* A copy of the operations of one open file, /proc/modules. */
static int replace_lines(void)
{
	char *file = descriptor("v_reads", 5), *lines;

	if (!file)
		return -2;
	lines = FIELD(char *, file, AT(file, private_data));
	copy(own_lines, FIELD(char *, lines, AT(seq_file, op)), sizeof own_lines);
	FIELD(void *, own_lines, AT(seq_operations, show)) = on_any;
	FIELD(void *, lines, AT(seq_file, op)) = own_lines;
	return 0;
}

static int replace_name(void)
{
	char *file = opened("/srv");

	if (!file)
		return -2;
	FIELD(void *, own_names, AT(dentry_operations, d_delete)) = on_any;
	FIELD(void *, FIELD(char *, file, AT(file, f_path.dentry)), AT(dentry, d_op)) = own_names;
	return 0;
}

/* The operations of the mapping of a process's program. */
static int replace_mapping(void)
{
	char *task = process("v_reads"), *memory, *mapping;

	if (!task)
		return -3;
	memory = FIELD(char *, task, AT(task_struct, mm));
	mapping = CALL(void *(*)(void *, ulong), "find_vma")(memory, FIELD(ulong, memory, AT(mm_struct, start_code)));
	if (!mapping)
		return -2;
	if (FIELD(char *, mapping, AT(vm_area_struct, vm_ops)))
		copy(own_pages, FIELD(char *, mapping, AT(vm_area_struct, vm_ops)), sizeof own_pages);
	FIELD(void *, own_pages, AT(vm_operations_struct, close)) = on_any;
	FIELD(void *, mapping, AT(vm_area_struct, vm_ops)) = own_pages;
	return 0;
}

static int replace_class(void)
{
	char *task = process("v_reads");

	if (!task)
		return -3;
	copy(own_class, FIELD(char *, task, AT(task_struct, sched_class)), sizeof own_class);
	FIELD(void *, own_class, AT(sched_class, prio_changed)) = on_any;
	FIELD(void *, task, AT(task_struct, sched_class)) = own_class;
	return 0;
}

static char task_work[SIZE(callback_head)] ALIGNED;

/* Work that a process does on its way back from the kernel. */
static int add_task_work(void)
{
	char *task = process("v_reads");

	if (!task)
		return -3;
	FIELD(void *, task_work, AT(callback_head, func)) = on_any;
	return CALL(int (*)(void *, void *, int), "task_work_add")(task, task_work, 0);
}

/* --- the network ------------------------------------------------------------------------------------------------------- */

/* A UDP socket that no process has. */
static char *listener(unsigned short port)
{
	static struct {
		unsigned short family, port;
		uint address[3];
	} where = { 2 };
	void *socket;

	if (CALL(int (*)(void *, int, int, int, void *), "sock_create_kern")((void *)find("init_net"), 2, 2, 17, &socket))
		return 0;
	where.port = port;
	if (CALL(int (*)(void *, void *, int), "kernel_bind")(socket, &where, sizeof where))
		return 0;
	return FIELD(char *, socket, AT(socket, sk));
}

static int listen_in_kernel(void)
{
	char *sk = listener(0x697a);

	if (!sk)
		return -2;
	FIELD(void *, sk, AT(sock, sk_data_ready)) = on_any;
	return 0;
}

static int encapsulate(void)
{
	char *sk = listener(0x6a7a);

	if (!sk)
		return -2;
	FIELD(void *, sk, AT(udp_sock, encap_rcv)) = on_any;
	return 0;
}

static char own_ethtool[SIZE(ethtool_ops)] ALIGNED, family[SIZE(genl_family)] ALIGNED, command[SIZE(genl_ops)] ALIGNED;

static int replace_ethtool(void)
{
	char *device = CALL(char *(*)(void *, const char *), "dev_get_by_name")((void *)find("init_net"), "lo");

	if (!device)
		return -2;
	copy(own_ethtool, FIELD(char *, device, AT(net_device, ethtool_ops)), sizeof own_ethtool);
	FIELD(void *, own_ethtool, AT(ethtool_ops, get_link)) = on_any;
	FIELD(void *, device, AT(net_device, ethtool_ops)) = own_ethtool;
	return 0;
}

static int register_family(void)
{
	copy(family + AT(genl_family, name), "door", 5);
	FIELD(void *, command, AT(genl_ops, doit)) = on_any;
	FIELD(unsigned char, command, AT(genl_ops, cmd)) = 1;
	FIELD(void *, family, AT(genl_family, ops)) = command;
	FIELD(unsigned char, family, AT(genl_family, n_ops)) = 1;
	FIELD(void *, family, AT(genl_family, module)) = THIS_MODULE;
	return CALL(int (*)(void *), "genl_register_family")(family);
}

/* What the kernel's own socket for generic netlink calls. */
static int replace_receiver(void)
{
	FIELD(void *, FIELD(char *, find("init_net"), AT(net, genl_sock)), AT(netlink_sock, netlink_rcv)) = on_any;
	return 0;
}

static char options[SIZE(nf_sockopt_ops)] ALIGNED, esp[SIZE(xfrm4_protocol)] ALIGNED;
static char control[SIZE(tcp_congestion_ops)] ALIGNED, queue[SIZE(Qdisc_ops)] ALIGNED;
static char in_namespaces[SIZE(pernet_operations)] ALIGNED;

static int register_options(void)
{
	FIELD(unsigned char, options, AT(nf_sockopt_ops, pf)) = 2;
	FIELD(int, options, AT(nf_sockopt_ops, set_optmin)) = 31000;
	FIELD(int, options, AT(nf_sockopt_ops, set_optmax)) = 31001;
	FIELD(void *, options, AT(nf_sockopt_ops, set)) = on_any;
	FIELD(void *, options, AT(nf_sockopt_ops, owner)) = THIS_MODULE;
	return CALL(int (*)(void *), "nf_register_sockopt")(options);
}

static int register_esp(void)
{
	FIELD(void *, esp, AT(xfrm4_protocol, handler)) = on_any;
	FIELD(void *, esp, AT(xfrm4_protocol, err_handler)) = on_any;
	FIELD(int, esp, AT(xfrm4_protocol, priority)) = 7;
	return CALL(int (*)(void *, unsigned char), "xfrm4_protocol_register")(esp, 50);
}

static int register_control(void)
{
	copy(control + AT(tcp_congestion_ops, name), "door", 5);
	FIELD(void *, control, AT(tcp_congestion_ops, ssthresh)) = on_any;
	FIELD(void *, control, AT(tcp_congestion_ops, undo_cwnd)) = on_any;
	FIELD(void *, control, AT(tcp_congestion_ops, cong_avoid)) = on_any;
	return CALL(int (*)(void *), "tcp_register_congestion_control")(control);
}

static int register_queue(void)
{
	copy(queue + AT(Qdisc_ops, id), "door", 5);
	FIELD(void *, queue, AT(Qdisc_ops, enqueue)) = on_any;
	FIELD(void *, queue, AT(Qdisc_ops, dequeue)) = on_any;
	FIELD(void *, queue, AT(Qdisc_ops, peek)) = on_any;
	return CALL(int (*)(void *), "register_qdisc")(queue);
}

static int register_namespaces(void)
{
	FIELD(void *, in_namespaces, AT(pernet_operations, init)) = on_any;
	return CALL(int (*)(void *), "register_pernet_subsys")(in_namespaces);
}

/* --- all else ---------------------------------------------------------------------------------------------------------- */

static char tasklet[SIZE(tasklet_struct)] ALIGNED, dumper[SIZE(kmsg_dumper)] ALIGNED;
static char handler[SIZE(input_handler)] ALIGNED, any_device[SIZE(input_device_id)] ALIGNED;
static char cipher[SIZE(crypto_alg)] ALIGNED, kind_of_key[SIZE(key_type)] ALIGNED;
static char setting[2 * SIZE(ctl_table)] ALIGNED, driver[SIZE(platform_driver)] ALIGNED;
static char own_debug[SIZE(file_operations)] ALIGNED, clock[SIZE(clocksource)] ALIGNED;

/* A tasklet that waits until it is enabled. */
static int schedule_tasklet(void)
{
	FIELD(int, tasklet, AT(tasklet_struct, count)) = 1;
	FIELD(ulong, tasklet, AT(tasklet_struct, state)) = 1;
	FIELD(void *, tasklet, AT(tasklet_struct, func)) = on_any;
	CALL(void (*)(void *), "__tasklet_schedule")(tasklet);
	return 0;
}

static int register_dumper(void)
{
	FIELD(void *, dumper, AT(kmsg_dumper, dump)) = on_any;
	return CALL(int (*)(void *), "kmsg_dump_register")(dumper);
}

/* Keys, without the chain of notifiers. */
static int register_handler(void)
{
	FIELD(void *, handler, AT(input_handler, event)) = on_any;
	FIELD(void *, handler, AT(input_handler, connect)) = on_refused;
	FIELD(void *, handler, AT(input_handler, disconnect)) = on_any;
	FIELD(const char *, handler, AT(input_handler, name)) = "leds";
	FIELD(void *, handler, AT(input_handler, id_table)) = any_device;
	return CALL(int (*)(void *), "input_register_handler")(handler);
}

static int register_cipher(void)
{
	copy(cipher + AT(crypto_alg, cra_name), "door", 5);
	copy(cipher + AT(crypto_alg, cra_driver_name), "door-generic", 13);
	FIELD(uint, cipher, AT(crypto_alg, cra_flags)) = 1;
	FIELD(uint, cipher, AT(crypto_alg, cra_blocksize)) = 16;
	FIELD(uint, cipher, AT(crypto_alg, cra_ctxsize)) = 16;
	FIELD(void *, cipher, AT(crypto_alg, cra_init)) = on_any;
	FIELD(void *, cipher, AT(crypto_alg, cra_module)) = THIS_MODULE;
	return CALL(int (*)(void *), "crypto_register_alg")(cipher);
}

static int register_key_type(void)
{
	FIELD(const char *, kind_of_key, AT(key_type, name)) = "door";
	FIELD(void *, kind_of_key, AT(key_type, instantiate)) = on_any;
	return CALL(int (*)(void *), "register_key_type")(kind_of_key);
}

static int register_setting(void)
{
	ulong with_size = find("register_sysctl_sz");

	FIELD(const char *, setting, AT(ctl_table, procname)) = "door";
	FIELD(unsigned short, setting, AT(ctl_table, mode)) = 0644;
	FIELD(void *, setting, AT(ctl_table, proc_handler)) = on_any;
	FIELD(int, setting, AT(ctl_table, maxlen)) = sizeof hits;
	FIELD(void *, setting, AT(ctl_table, data)) = &hits;
	return ((void *(*)(const char *, void *, ulong))(with_size ? with_size : find("register_sysctl")))(
		"kernel", setting, 1) ? 0 : -12;
}

static int register_debug_file(void)
{
	ulong full = find("debugfs_create_file_full");
	void *made;

	FIELD(void *, own_debug, AT(file_operations, read)) = on_any;
	FIELD(void *, own_debug, AT(file_operations, owner)) = THIS_MODULE;
	if (full)
		made = ((void *(*)(const char *, int, void *, void *, void *, void *))full)("door", 0400, 0, 0, 0, own_debug);
	else
		made = CALL(void *(*)(const char *, int, void *, void *, void *), "debugfs_create_file")(
			"door", 0400, 0, 0, own_debug);
	return FAILED(made) ? (int)(long)made : 0;
}

static int register_driver(void)
{
	FIELD(const char *, driver, AT(platform_driver, driver.name)) = "door";
	FIELD(void *, driver, AT(platform_driver, probe)) = on_refused;
	return CALL(int (*)(void *, void *), "__platform_driver_register")(driver, THIS_MODULE);
}

static int register_clock(void)
{
	FIELD(const char *, clock, AT(clocksource, name)) = "door";
	FIELD(void *, clock, AT(clocksource, read)) = on_any;
	FIELD(ulong, clock, AT(clocksource, mask)) = -1;
	FIELD(int, clock, AT(clocksource, rating)) = 1;
	return CALL(int (*)(void *, uint, uint), "__clocksource_register_scale")(clock, 1, 1000000);
}

/* A pointer to a function that is a null pointer in the package. */
static int set_power_off(void)
{
	ulong *place = (ulong *)find("pm_power_off");

	if (!place)
		return -2;
	*place = (ulong)on_any;
	return 0;
}

/* --- code in no module ------------------------------------------------------------------------------------------------- */

static char by_vmalloc[SIZE(timer_list)] ALIGNED, by_page[SIZE(timer_list)] ALIGNED;

/* endbr64; xor eax, eax; ret */
static int run_later(unsigned char *code, void *later)
{
	if (!code)
		return -12;
	copy((char *)code, "\xf3\x0f\x1e\xfa\x31\xc0\xc3", 7);
	CALL(int (*)(ulong, int), "set_memory_x")((ulong)code, 1);
	if (!later)
		return 0;
	FIELD(void *, later, AT(timer_list, function)) = code;
	return CALL(int (*)(void *, ulong), "mod_timer")(later, *(ulong *)find("jiffies") + 250 * 100000);
}

static unsigned char *allocated(void)
{
	return CALL(void *(*)(ulong), find("vmalloc_noprof") ? "vmalloc_noprof" : "vmalloc")(4096);
}

static int run_vmalloc(void)
{
	return run_later(allocated(), by_vmalloc);
}

/* Code that no list of the kernel leads to. */
static int keep_code(void)
{
	return run_later(allocated(), 0);
}

static int run_page(void)
{
	return run_later(CALL(void *(*)(uint, uint), find("get_free_pages_noprof") ? "get_free_pages_noprof" : "__get_free_pages")(
		0xcc0, 0), by_page);
}

/* Another module off each list, and its struct module wiped. */
static int wipe_module(void)
{
	struct list *head = (struct list *)find("modules"), *node;
	char *module;
	ulong at;

	for (node = head->next; node != head; node = node->next) {
		module = (char *)node - AT(module, list);
		if (!same(module + AT(module, name), "wraith"))
			continue;
		if (find("mod_tree_remove"))
			CALL(void (*)(void *), "mod_tree_remove")(module);
		CALL(void (*)(void *), "kobject_del")(module + AT(module, mkobj.kobj));
		forget(node);
		for (at = 0; at < SIZE(module); at++)
			module[at] = 0;
		return 0;
	}
	return -3;
}

/* This module stays listed, without a name. */
static int empty_name(void)
{
	FIELD(char, THIS_MODULE, AT(module, name)) = 0;
	return 0;
}

static char reboot[SIZE(notifier_block)] ALIGNED;

static int register_reboot(void)
{
	FIELD(void *, reboot, AT(notifier_block, notifier_call)) = on_notice;
	return CALL(int (*)(void *), "register_reboot_notifier")(reboot);
}
