/* getrandom(2): EOPNOTSUPP for an unknown flag is the new behaviour, EINVAL the old one. */
#include <errno.h>
#include <sys/random.h>

int main(void)
{
	char bytes[8];

	if (getrandom(bytes, sizeof(bytes), GRND_INSECURE) != sizeof(bytes))
		return 2;
	/* A guest without a random device may not be ready yet: both answers are right. */
	if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != sizeof(bytes) && errno != EAGAIN)
		return 2;
	if (getrandom(bytes, sizeof(bytes), 0x80) != -1)
		return 2;
	return errno == EOPNOTSUPP ? 0 : errno == EINVAL ? 1 : 2;
}
