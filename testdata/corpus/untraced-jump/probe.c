#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* What the console answers to a question; an empty answer is none. */
static void ask(int tty, const char *question, char *answer, int size)
{
	struct pollfd input = { .fd = tty, .events = POLLIN };
	int length = 0, got;

	if (write(tty, question, strlen(question)) < 0)
		size = 0;
	while (length < size - 1 && poll(&input, 1, 1000) > 0) {
		got = read(tty, answer + length, 1);
		if (got != 1)
			break;
		length += got;
		if (answer[length - 1] == 'c')
			break;
	}
	answer[length] = 0;
}

/* 0: the patched answer to both questions, 1: the kernel's, 2: anything else. */
int main(void)
{
	char called[32], inlined[32];
	struct termios raw;
	int tty = open("/dev/tty1", O_RDWR | O_NOCTTY);

	if (tty < 0 || tcgetattr(tty, &raw))
		return 2;
	cfmakeraw(&raw);
	if (tcsetattr(tty, TCSANOW, &raw))
		return 2;
	ask(tty, "\033[c", called, sizeof(called));
	ask(tty, "\033Z", inlined, sizeof(inlined));
	if (strcmp(called, inlined))
		return 2;
	return !strcmp(called, "\033[?62c") ? 0 : !strcmp(called, "\033[?6c") ? 1 : 2;
}
