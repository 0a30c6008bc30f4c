/* Somebody who types at an interactive program. */

#define PROMPT "PROMPT> "

/* Until the program asks for more, or, where it has no prompt, says nothing for a while. */
static void read_until_prompt(int terminal, int has_prompt)
{
	static char buffer[65536];
	size_t size = 0;
	struct pollfd wait = { terminal, POLLIN };

	while (size < sizeof buffer - 1 && poll(&wait, 1, has_prompt ? 60000 : 2000) > 0) {
		ssize_t got = read(terminal, buffer + size, sizeof buffer - 1 - size);

		if (got <= 0)
			break;
		size += got;
		buffer[size] = 0;
		if (size >= strlen(PROMPT) && !strcmp(buffer + size - strlen(PROMPT), PROMPT))
			return;
	}
	errno = ETIME;
	if (has_prompt)
		die("no prompt");
}

/* typist FILE PROGRAM ARGUMENT...: type the lines of a file; lines that begin with a tab wait for no prompt. */
static void typist(char **arguments)
{
	static char line[8192], *environment[] = {
		"PATH=/usr/bin:/usr/sbin", "TERM=dumb", "PS1=" PROMPT, "HOME=/root", "HISTTIMEFORMAT=%s ", "BC_LINE_LENGTH=0",
		NULL,
	};
	static char ready_name[64];
	FILE *lines = fopen(arguments[0], "r");
	int terminal, has_prompt = !strcmp(arguments[1], "/usr/bin/bash");

	if (!lines)
		die(arguments[0]);
	if (!checked(forkpty(&terminal, NULL, NULL, NULL), "forkpty")) {
		execve(arguments[1], arguments + 1, environment);
		die(arguments[1]);
	}
	read_until_prompt(terminal, has_prompt);
	while (fgets(line, sizeof line, lines)) {
		int more = line[0] == '\t';

		checked(write(terminal, line + more, strlen(line + more)), "type");
		if (!more)
			read_until_prompt(terminal, has_prompt);
	}
	snprintf(ready_name, sizeof ready_name, "typist-%s", strrchr(arguments[0], '/') + 1);
	role = ready_name;
	rest();
}
