/*
 * PID 1 of a guest that is a server and a client of NFS: it loads the modules of /m, exports a folder, mounts it, looks at
 * its files, and says so on the console when what the client keeps of them has expired. The caches of the server are
 * filled as mountd would do it (nfsd(7), net/sunrpc/cache.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPIRES 2		/* seconds for which the client keeps attributes */

static void say(const char *what)
{
	dprintf(1, "hb: %s (%s)\n", what, strerror(errno));
}

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
			say(name);
		close(module);
	}
}

static void put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CREAT, 0644);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		say(path);
	close(file);
}

int main(void)
{
	int lo = socket(AF_INET, SOCK_DGRAM, 0), file;
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	struct stat seen;
	char text[64];

	mkdir("/proc", 0755);
	mkdir("/mnt", 0755);
	mkdir("/export", 0755);
	mkdir("/var", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("tmpfs", "/export", "tmpfs", 0, NULL);
	ioctl(lo, SIOCSIFFLAGS, &request);
	load_modules();
	mkdir("/export/folder", 0755);
	put("/export/read", "looked at\n");
	put("/export/folder/inner", "inside\n");
	put("/export/unread", "not looked at\n");
	if (mount("nfsd", "/proc/fs/nfsd", "nfsd", 0, NULL))
		say("nfsd");
	put("/proc/net/rpc/auth.unix.ip/channel", "nfsd 127.0.0.1 2147483647 here\n");
	put("/proc/net/rpc/nfsd.export/channel", "here /export 2147483647 9218 -2 -2 0\n");	/* no_subtree_check,insecure,fsid */
	put("/proc/net/rpc/nfsd.fh/channel", "here 1 \\x00000000 2147483647 /export\n");
	put("/proc/fs/nfsd/nfsv4gracetime", "1\n");
	put("/proc/fs/nfsd/versions", "-2 -3 +4 +4.1 +4.2\n");
	put("/proc/fs/nfsd/threads", "2\n");
	put("/proc/fs/nfsd/v4_end_grace", "Y\n");
	snprintf(text, sizeof text, "vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,actimeo=%d", EXPIRES);
	if (mount("127.0.0.1:/", "/mnt", "nfs4", 0, text))
		say("mount");
	file = open("/mnt/read", O_RDONLY);
	if (file < 0 || read(file, text, sizeof text) != 10)
		say("read");
	file = open("/mnt/folder/inner", O_RDONLY);
	if (stat("/mnt/read", &seen) || stat("/mnt/folder/inner", &seen) || chdir("/mnt/folder"))
		say("stat");
	sleep(2 * EXPIRES);
	dprintf(1, "hb: size %d inode %d\n", (int)seen.st_size, (int)seen.st_ino);
	dprintf(1, "hb: ready\n");
	for (;;)
		pause();
}
