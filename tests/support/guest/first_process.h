/* What the first process of a guest does in more than one test: it speaks on the console, loads modules, uses lo. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *what)
{
	dprintf(1, "hb: %s (%s)\n", what, strerror(errno));
}

/* Those of /m, in their order (support/own_guest.py). */
static void load_modules(void)
{
	static char names[4096];
	int list = open("/m/order", O_RDONLY);
	char path[256], *name;

	read(list, names, sizeof names - 1);
	close(list);
	for (name = strtok(names, "\n"); name; name = strtok(NULL, "\n")) {
		int module;

		snprintf(path, sizeof path, "/m/%s.ko", name);
		module = open(path, O_RDONLY);
		if (syscall(SYS_finit_module, module, "", 0) && errno != EEXIST)
			say(name);	/* a CPU may lack what it drives */
		close(module);
	}
}

/* By any socket. */
static void loopback_up(int any)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	ioctl(any, SIOCSIFFLAGS, &request);
}
