// A server that answers lines, and puts signal handlers of its own in place when a line is "1".
#include <signal.h>
#include <stdio.h>
#include <string.h>

__attribute__((noinline)) int serve(const char *text, int n)
{
	__asm__ volatile("" ::: "memory");
	return n + (text[0] == '1');
}

static void handler(int sig) { _Exit(3); }

int main(void)
{
	char line[64];
	while (fgets(line, sizeof line, stdin)) {
		if (!strcmp(line, "1\n"))
			signal(SIGSEGV, handler), signal(SIGBUS, handler);
		printf("%d\n", serve(line, 7));
		fflush(stdout);
	}
}
