/* Answers each line with what lookup() makes of it. */
#include <stdio.h>

__attribute__((noinline)) int lookup(const char *text, int n)
{
	int stars = 0;
	for (int i = 0; i < n; i++)
		stars += text[i] == '*';
	return stars;
}

int main(void)
{
	char line[256];
	setvbuf(stdout, 0, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		int n = 0;
		while (line[n] && line[n] != '\n')
			n++;
		printf("%d\n", lookup(line, n));
	}
	return 0;
}
