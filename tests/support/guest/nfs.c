/*
 * PID 1 of a guest that is a server and a client of NFS: it loads the modules of /m, exports a folder, mounts it, looks at
 * its files, and says so on the console when what the client keeps of them has expired. The caches of the server are
 * filled as mountd would do it (nfsd(7), net/sunrpc/cache.c).
 */
#include <sys/mount.h>
#include <sys/stat.h>

#include "first_process.h"

#define EXPIRES 2		/* seconds for which the client keeps attributes */

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
	struct stat seen;
	char text[64];

	mkdir("/proc", 0755);
	mkdir("/mnt", 0755);
	mkdir("/export", 0755);
	mkdir("/var", 0755);
	mkdir("/var/lib", 0755);
	mkdir("/var/lib/nfs", 0755);
	mkdir("/var/lib/nfs/v4recovery", 0755);	/* or the server would not end its 90 s of grace */
	mount("proc", "/proc", "proc", 0, NULL);
	mount("tmpfs", "/export", "tmpfs", 0, NULL);
	loopback_up(lo);
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
