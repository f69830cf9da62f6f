/* F_DUPFD from 77 on gives 77, or 99 in the patched kernel; from 50 on it gives 50 in both. */
#include <fcntl.h>

int main(void)
{
	int plain = fcntl(0, F_DUPFD, 50), asked = fcntl(0, F_DUPFD, 77);

	if (plain != 50)
		return 2;
	return asked == 99 ? 0 : asked == 77 ? 1 : 2;
}
