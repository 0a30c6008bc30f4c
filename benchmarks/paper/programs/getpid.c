/* getpid, as the paper's list has it: what a program learns of itself. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	printf("%d\n", getpid());
	return 0;
}
