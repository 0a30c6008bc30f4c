/* gettime and getpid of the paper's list: what a small program learns of the time, and of itself. */
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct timespec now, up;
	struct timeval day;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	gettimeofday(&day, NULL);
	printf("%lld.%09ld %lld.%06ld %lld %lld.%09ld %d\n", (long long)now.tv_sec, now.tv_nsec, (long long)day.tv_sec,
	       (long)day.tv_usec, (long long)time(NULL), (long long)up.tv_sec, up.tv_nsec, getpid());
	return 0;
}
