/*
 * Lists a tree as this kernel has it, and which pages of each file are in the page cache.
 *
 *     inventory FOLDER...
 *
 * One line for each entry, in columns separated by blanks: path, mode (octal), uid, gid, links, size, 512-byte blocks,
 * inode, the four times (access, change, modification, birth; "-" where there is none), the target of a link, extended
 * attributes (NAME=VALUE, separated by commas), and one digit for each page of a file: 1 if mincore(2) finds it. Paths,
 * targets and attributes are in hexadecimal; "-" stands for nothing. What lies below a folder named "cold" is not looked
 * at, and neither that folder's own entries are.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* include/uapi/linux/stat.h, which musl has not. */
struct moment { int64_t seconds; uint32_t nanoseconds, unused; };
struct seen {
	uint32_t mask, block_size;
	uint64_t attributes;
	uint32_t links, uid, gid;
	uint16_t mode, unused;
	uint64_t inode, size, blocks, attributes_mask;
	struct moment access, birth, change, modification;
	uint8_t rest[256 - 128];
};
#define ALL 0xfff
#define HAS_BIRTH 0x800

#define MAX_PATH 4096
#define MAX_DEPTH 32
#define MAX_MAPPED (64l << 20)
#define PAGE 4096

static void hex(const void *data, long size)
{
	if (size <= 0)
		putchar('-');
	for (long i = 0; i < size; i++)
		printf("%02x", ((const unsigned char *)data)[i]);
}

static void moment(int known, struct moment at)
{
	if (known)
		printf(" %lld.%09u", (long long)at.seconds, at.nanoseconds);
	else
		printf(" -");
}

static void attributes(const char *path)
{
	char names[4096], value[4096];
	ssize_t size = llistxattr(path, names, sizeof names), got;
	int any = 0;

	for (char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
		got = lgetxattr(path, name, value, sizeof value);
		if (got < 0)
			continue;
		if (any++)
			putchar(',');
		hex(name, strlen(name));
		putchar('=');
		hex(value, got);
	}
	if (!any)
		putchar('-');
}

static void pages(const char *path, long size)
{
	long count = (size + PAGE - 1) / PAGE;
	int fd = size > 0 && size <= MAX_MAPPED ? open(path, O_RDONLY | O_NOATIME) : -1;
	void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char *found = malloc(count + 1);

	if (mapped == MAP_FAILED || !found || mincore(mapped, size, found))
		putchar('-');
	else
		for (long i = 0; i < count; i++)
			putchar('0' + (found[i] & 1));
	if (mapped != MAP_FAILED)
		munmap(mapped, size);
	free(found);
	close(fd);
}

static void entry(const char *path, int depth)
{
	struct seen seen;
	char target[MAX_PATH];
	const char *name = strrchr(path, '/');

	ssize_t length = readlink(path, target, sizeof target); /* first: it may change the access time */

	if (syscall(SYS_statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, ALL, &seen)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return;
	}
	hex(path, strlen(path));
	printf(" %o %u %u %u %llu %llu %llu", seen.mode, seen.uid, seen.gid, seen.links,
	       (unsigned long long)seen.size, (unsigned long long)seen.blocks, (unsigned long long)seen.inode);
	moment(1, seen.access);
	moment(1, seen.change);
	moment(1, seen.modification);
	moment(!!(seen.mask & HAS_BIRTH), seen.birth);
	putchar(' ');
	hex(target, length);
	putchar(' ');
	attributes(path);
	putchar(' ');
	if (S_ISREG(seen.mode))
		pages(path, seen.size);
	else
		putchar('-');
	putchar('\n');

	if (!S_ISDIR(seen.mode) || depth >= MAX_DEPTH || (name && !strcmp(name, "/cold")))
		return;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOATIME);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *item;
	char child[MAX_PATH];

	while (folder && (item = readdir(folder)))
		if (strcmp(item->d_name, ".") && strcmp(item->d_name, "..") &&
		    snprintf(child, sizeof child, "%s/%s", path, item->d_name) < (int)sizeof child)
			entry(child, depth + 1);
	if (folder)
		closedir(folder);
}

int main(int count, char **arguments)
{
	for (int i = 1; i < count; i++)
		entry(arguments[i], 0);
	return 0;
}
