/* The exit code that the kernel reports for 77; another one shows that the rest still works. */
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static int reported(int code)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		/* The end of this task alone: its code is what the function gets. */
		syscall(SYS_exit, code);
		_exit(1);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

int main(void)
{
	if (reported(76) != 76)
		return 2;
	switch (reported(77)) {
	case 78:
		return 0;
	case 77:
		return 1;
	}
	return 2;
}
