/* times(2): user time of ten million ticks and more is the new behaviour. */
#include <sys/times.h>

int main(void)
{
	struct tms now;

	if (times(&now) == (clock_t)-1)
		return 2;
	return now.tms_utime >= 10000000 ? 0 : 1;
}
