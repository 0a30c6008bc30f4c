/*
 * A process for an attack to work on.
 *
 *     victim NAME UID [listen | knock]
 *
 * It takes that name and user, as descriptor 3 a listening TCP socket if asked for, and sleeps. One that knocks tries
 * acct(2) until that has made it root.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT 31337

int main(int count, char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	uid_t user = atoi(arguments[2]);

	if (count > 3 && *arguments[3] == 'l') {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd != 3 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1))
			return 1;
	}
	if (setresgid(user, user, user) || setresuid(user, user, user))
		return 1;
	prctl(PR_SET_NAME, arguments[1]);
	while (count > 3 && *arguments[3] == 'k' && getuid()) {
		acct("");
		usleep(100000);
	}
	for (;;)
		pause();
}
