/* The patched kernel adds 7,000,000,000 to the largest resident size. */
#include <sys/resource.h>

int main(void)
{
	struct rusage used;

	if (getrusage(RUSAGE_SELF, &used) || used.ru_maxrss <= 0)
		return 2;
	return used.ru_maxrss > 7000000000L ? 0 : 1;
}
