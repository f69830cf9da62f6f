#include <errno.h>
#include <sys/prctl.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif

/* 0: the patched error, 1: the kernel's, 2: anything else. */
int main(void)
{
	const unsigned long no_inherit = 2;

	if (prctl(PR_SET_MDWE, no_inherit, 0, 0, 0) != -1)
		return 2;
	return errno == EOPNOTSUPP ? 0 : errno == EINVAL ? 1 : 2;
}
