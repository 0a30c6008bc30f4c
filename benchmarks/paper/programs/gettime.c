/* gettime, as the paper's list has it: what a program learns of the time. */
#include <stdio.h>
#include <time.h>

int main(void)
{
	struct timespec now, up;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	printf("%lld.%09ld %lld.%09ld\n", (long long)now.tv_sec, now.tv_nsec, (long long)up.tv_sec, up.tv_nsec);
	return 0;
}
