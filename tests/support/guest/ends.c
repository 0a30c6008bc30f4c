/*
 * PID 1 of a guest that comes to an end: what to do stands on the kernel's command line.
 *
 *     hb.end=ready            say so on the console, and do nothing more
 *     hb.end=panic            work on every CPU, then panic (sysrq c)
 *     hb.end=kexec            start the kernel /vmlinuz in this one's place, with hb.end=ready
 *     hb.end=kdump            load it as kdump's capture kernel, then panic
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEXEC_FILE_LOAD 320	/* arch/x86/entry/syscalls/syscall_64.tbl */
#define ON_CRASH 2		/* KEXEC_FILE_ON_CRASH, include/uapi/linux/kexec.h */
#define RESTART_KEXEC 0x45584543

static void say(const char *what)
{
	dprintf(1, "hb: %s (%s)\n", what, strerror(errno));
}

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		say(path);
	close(fd);
}

static int load_kernel(const char *line, long flags)
{
	int kernel = open("/vmlinuz", O_RDONLY), files = open("/initrd", O_RDONLY);

	if (syscall(KEXEC_FILE_LOAD, kernel, files, strlen(line) + 1, line, flags)) {
		say("kexec_file_load failed");
		return -1;
	}
	return 0;
}

int main(void)
{
	static char words[4096], next[4096];
	int fd, end;
	char *what, *stop;

	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	fd = open("/proc/cmdline", O_RDONLY);
	read(fd, words, sizeof words - 1);
	close(fd);
	words[strcspn(words, "\n")] = 0;
	what = strstr(words, "hb.end=");
	what = what ? what + strlen("hb.end=") : "ready";
	stop = strchr(what, ' ');
	end = stop ? stop - what : (int)strlen(what);
	snprintf(next, sizeof next, "%.*shb.end=ready%s", (int)(what - strlen("hb.end=") - words), words, stop ? stop : "");
	sethostname(strstr(words, "hb.end=ready") ? "second" : "first", strstr(words, "hb.end=ready") ? 6 : 5);
	errno = 0;
	if (!strncmp(what, "kexec", end)) {
		if (!load_kernel(next, 0))
			syscall(SYS_reboot, 0xfee1dead, 672274793, RESTART_KEXEC, NULL);
		say("kexec failed");
	} else if (!strncmp(what, "kdump", end) || !strncmp(what, "panic", end)) {
		for (int cpu = sysconf(_SC_NPROCESSORS_ONLN); cpu > 1; cpu--)
			if (!fork()) {
				prctl(PR_SET_NAME, "spinner");
				for (;;)
					;
			}
		if (strncmp(what, "kdump", end) || !load_kernel(next, ON_CRASH)) {
			sleep(1);
			write_to("/proc/sysrq-trigger", "c");
		}
		say("no panic");
	}
	say("ready");
	for (;;)
		pause();
}
