/* Forks three children before anything else, which fork one each, and says who they are. */
#include <stdio.h>
#include <unistd.h>

static volatile int table[128];

__attribute__((noipa)) int lookup(int n)
{
	table[n & 127] += n;
	return n;
}

int main(void)
{
	char line[64];
	int out = dup(1);
	for (int i = 0; i < 3; i++)
		if (!fork()) {
			fork();
			break;
		}
	write(out, line, snprintf(line, sizeof line, "%d\n", getpid()));
	for (;;) {
		pause();
		lookup(1);
	}
}
