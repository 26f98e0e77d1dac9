/* With an argument, lookup is called at once; without, for each line that is read.
 * A number above 100 kills it, unless the guard stands in front. */
#include <stdio.h>
#include <stdlib.h>

__attribute__((noipa)) int lookup(int n)
{
	volatile char *table = n > 100 ? 0 : "ok";
	return n + table[0] * 0;
}

int main(int argc, char **argv)
{
	char line[64];
	if (argc > 1)
		return lookup(atoi(argv[1])) == -1 ? 7 : 4;
	setvbuf(stdout, 0, _IONBF, 0);
	while (fgets(line, sizeof line, stdin))
		printf("%d\n", lookup(atoi(line)));
	return 0;
}
