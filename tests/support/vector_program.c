/*
 * The sum of n * n - n of a few numbers, by instructions of AVX if the processor says that it has them. Compiled with
 * -mavx, all of it is such instructions, and nobody asks the processor.
 */
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline, target("avx"))) static double total_avx(const double *of, int count)
{
	double sum = 0;

	while (count--)
		sum += of[count] * of[count] - of[count];
	return sum;
}

__attribute__((noinline)) static double total(const double *of, int count)
{
	double sum = 0;

	while (count--)
		sum += of[count] * of[count] - of[count];
	return sum;
}

int main(int argc, char **argv)
{
	double given[16];
	int count = 0;

	while (count < 16 && count + 1 < argc) {
		given[count] = atoi(argv[count + 1]);
		count++;
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	puts("begins");
	printf("%.1f\n", (__builtin_cpu_supports("avx") ? total_avx : total)(given, count));
	return 0;
}
