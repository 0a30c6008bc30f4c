/*
 * Encrypted directories of a file system (Documentation/filesystems/fscrypt.rst), which no program of busybox's makes.
 *
 *     encrypt FIRST SECOND
 *
 * Two new, empty directories of one file system get policies of version 1 and 2, by keys of 64 bytes that each count up
 * from a number of their own. Prints the key's descriptor and the key's identifier in hexadecimal.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_SIZE 64
#define SET_POLICY _IOR('f', 19, unsigned char[12])
#define ADD_KEY _IOWR('f', 23, unsigned char[80])
enum { AES_256_XTS = 1, AES_256_CTS = 4, BY_DESCRIPTOR = 1, BY_IDENTIFIER = 2 };

/* struct fscrypt_add_key_arg (include/uapi/linux/fscrypt.h), with its key. */
struct added {
	unsigned type, reserved;
	unsigned char name[32];
	unsigned size, key_id, reserved_too[8];
	unsigned char key[KEY_SIZE];
};

static void checked(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "encrypt: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Adds a key and gives a directory the policy that names it. */
static void lock(const char *path, struct added *key, int first)
{
	/* struct fscrypt_policy_v1 or fscrypt_policy_v2 */
	unsigned char policy[24] = { key->type == BY_IDENTIFIER ? 2 : 0, AES_256_XTS, AES_256_CTS };
	int by_identifier = key->type == BY_IDENTIFIER, folder;

	for (int i = 0; i < KEY_SIZE; i++)
		key->key[i] = first + i;
	key->size = KEY_SIZE;
	checked(mkdir(path, 0755), path);
	folder = open(path, O_RDONLY | O_DIRECTORY);
	checked(folder, path);
	checked(ioctl(folder, ADD_KEY, key), "FS_IOC_ADD_ENCRYPTION_KEY");
	memcpy(policy + (by_identifier ? 8 : 4), key->name, by_identifier ? 16 : 8);
	checked(ioctl(folder, SET_POLICY, policy), "FS_IOC_SET_ENCRYPTION_POLICY");
	for (int i = 0; i < (by_identifier ? 16 : 8); i++)
		printf("%02x", key->name[i]);
	printf("\n");
	close(folder);
}

int main(int count, char **arguments)
{
	static struct added first = { .type = BY_DESCRIPTOR, .name = "locked1" }, second = { .type = BY_IDENTIFIER };

	if (count != 3) {
		fprintf(stderr, "encrypt FIRST SECOND\n");
		return 2;
	}
	lock(arguments[1], &first, 1);
	lock(arguments[2], &second, 101);
	memset(first.key, 0, KEY_SIZE);
	memset(second.key, 0, KEY_SIZE);
	return 0;
}
