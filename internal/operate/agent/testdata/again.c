/* The number 0 makes it execute itself again. Each other is answered with what lookup
 * says of it; the answer to 0 comes from the program that was executed. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile int table[128];

__attribute__((noipa)) int lookup(int n)
{
	table[n & 127] += n;
	return n;
}

int main(int argc, char **argv)
{
	char c, line[64];
	setvbuf(stdout, 0, _IONBF, 0);
	if (argc > 1)
		printf("0\n");
	for (size_t n = 0; read(0, &c, 1) == 1;) { /* not one byte more than the line */
		if (c != '\n') {
			line[n++ % 63] = c;
			continue;
		}
		line[n] = 0;
		n = 0;
		if (atoi(line) == 0)
			execl("/proc/self/exe", argv[0], "again", (char *)0);
		printf("%d\n", lookup(atoi(line)));
	}
	return 0;
}
