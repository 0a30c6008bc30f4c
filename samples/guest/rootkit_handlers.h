/* --- handlers that the kernel takes: of security, tracing, later work, devices and their files ---------------------- */

static char security_hook[SIZE(security_hook_list)] ALIGNED;

static int on_program(void *program)
{
	hits++;
	return 0;
}

/* A function that is asked about each program that is started, as those of security modules are. */
static int add_security_hook(void)
{
	FIELD(void *, security_hook, AT(security_hook_list, hook)) = on_program;
#if HAS(security_hook_heads, bprm_check_security)
	ulong *head = (ulong *)(find("security_hook_heads") + AT(security_hook_heads, bprm_check_security));

	FIELD(ulong, security_hook, AT(security_hook_list, list.next)) = *head;
	FIELD(void *, security_hook, AT(security_hook_list, list.pprev)) = head;
	poke(head, (ulong)security_hook);
	return 0;
#else
	char *call = (char *)find("static_calls_table") + AT(lsm_static_calls_table, bprm_check_security);
	char *end = call + COUNT(lsm_static_calls_table, bprm_check_security) * SIZE(lsm_static_call);

	while (call < end && FIELD(void *, call, AT(lsm_static_call, hl)))
		call += SIZE(lsm_static_call);
	if (call == end)
		return -28;
	poke(call + AT(lsm_static_call, hl), (ulong)security_hook);
	CALL(void (*)(void *, void *, void *), "__static_call_update")(
		FIELD(void *, call, AT(lsm_static_call, key)), FIELD(void *, call, AT(lsm_static_call, trampoline)),
		on_program);
	CALL(void (*)(void *), "static_key_enable")(FIELD(void *, call, AT(lsm_static_call, active)));
	return 0;
#endif
}

static void on_call(void *data, void *registers, long number)
{
	hits++;
}

/* Each system call that begins. */
static int probe_tracepoint(void)
{
	return CALL(int (*)(ulong, void *, void *), "tracepoint_probe_register")(
		find("__tracepoint_sys_enter"), on_call, 0);
}

static char consumer[SIZE(uprobe_consumer)] ALIGNED;

static int on_entered(void *of, void *registers, void *data)
{
	hits++;
	return 0;
}

/* The entry point of ps. */
static int probe_program(void)
{
	ulong of_numbers = find("uprobe_register_refctr"), entry, result;
	char *file = opened("/usr/bin/ps");
	long place = 0x18; /* e_entry */

	if (!file)
		return -2;
	CALL(long (*)(void *, void *, ulong, long *), "kernel_read")(file, &entry, sizeof entry, &place);
	FIELD(void *, consumer, AT(uprobe_consumer, handler)) = on_entered;
	result = ((ulong (*)(void *, ulong, ulong, void *))(of_numbers ? of_numbers : find("uprobe_register")))(
		FIELD(void *, file, AT(file, f_inode)), entry, 0, consumer);
	return of_numbers ? (int)result : FAILED(result) ? (int)result : 0; /* a pointer since 6.12 */
}

static char work[SIZE(work_struct)] ALIGNED, later[SIZE(delayed_work)] ALIGNED;

static void rest(void)
{
	for (;;)
		CALL(ulong (*)(uint), "msleep_interruptible")(1000 * 1000);
}

static void on_work(void *item)
{
	hits++;
	rest();
}

static void on_later(void *item)
{
	hits++;
}

static void prepare(char *item, void (*function)(void *))
{
	void *ring = item + AT(work_struct, entry);

	FIELD(void *, item, AT(work_struct, entry.next)) = ring;
	FIELD(void *, item, AT(work_struct, entry.prev)) = ring;
	FIELD(void *, item, AT(work_struct, func)) = function;
}

/* A work item that is never done. */
static int keep_working(void)
{
	prepare(work, on_work);
	return !CALL(unsigned char (*)(int, void *, void *), "queue_work_on")(
		0, *(void **)find("system_long_wq"), work);
}

static int delay_work(void)
{
	prepare(later + AT(delayed_work, work), on_later);
	FIELD(ulong, later, AT(delayed_work, timer.function)) = find("delayed_work_timer_fn");
	return !CALL(unsigned char (*)(int, void *, void *, ulong), "queue_delayed_work_on")(
		0, *(void **)find("system_long_wq"), later, 250 * 100000);
}

static int on_interrupt(int number, void *cookie)
{
	hits++;
	return 0; /* IRQ_NONE */
}

/* A line that can be shared. */
static int share_interrupt(void)
{
	return CALL(int (*)(uint, void *, void *, ulong, const char *, void *), "request_threaded_irq")(
		5, on_interrupt, 0, 0x80 /* IRQF_SHARED */, "eth0", work);
}

static int on_thread(void *data)
{
	rest();
	return 0;
}

static int start_thread(void)
{
	void *task = CALL(void *(*)(void *, void *, int, const char *, ...), "kthread_create_on_node")(
		on_thread, 0, -1, "kworker/u9:3");

	if (FAILED(task))
		return (int)(long)task;
	CALL(int (*)(void *), "wake_up_process")(task);
	return 0;
}

static char format[SIZE(linux_binfmt)] ALIGNED, own_device[SIZE(file_operations)] ALIGNED;
static char own_attribute[SIZE(kobj_attribute)] ALIGNED;
static int (*open)(void *inode, void *file);
static long (*attribute)(void *object, void *of, char *text);

static int on_load(void *program)
{
	hits++;
	return -8; /* ENOEXEC: the next format's turn */
}

static int register_format(void)
{
	FIELD(void *, format, AT(linux_binfmt, load_binary)) = on_load;
	CALL(void (*)(void *, int), "__register_binfmt")(format, 1);
	return 0;
}

static int on_open(void *inode, void *file)
{
	hits++;
	return open(inode, file);
}

/* A copy of the operations of the character devices that /dev/zero is one of. */
static int replace_device(void)
{
	char *file = opened("/dev/zero"), *device;

	if (!file)
		return -2;
	device = FIELD(char *, FIELD(char *, file, AT(file, f_inode)), AT(inode, i_cdev));
	copy(own_device, FIELD(char *, device, AT(cdev, ops)), sizeof own_device);
	open = FIELD(void *, own_device, AT(file_operations, open));
	FIELD(void *, own_device, AT(file_operations, open)) = on_open;
	FIELD(void *, device, AT(cdev, ops)) = own_device;
	return 0;
}

static long on_attribute(void *object, void *of, char *text)
{
	hits++;
	return attribute(object, of, text);
}

/* A copy of an attribute, in the node of its file in /sys. */
static int replace_attribute(void)
{
	char *file = opened("/sys/kernel/uevent_seqnum"), *node;

	if (!file)
		return -2;
	node = FIELD(char *, FIELD(char *, file, AT(file, f_inode)), AT(inode, i_private));
	copy(own_attribute, FIELD(char *, node, AT(kernfs_node, priv)), sizeof own_attribute);
	attribute = FIELD(void *, own_attribute, AT(kobj_attribute, show));
	FIELD(void *, own_attribute, AT(kobj_attribute, show)) = on_attribute;
	FIELD(void *, node, AT(kernfs_node, priv)) = own_attribute;
	return 0;
}

