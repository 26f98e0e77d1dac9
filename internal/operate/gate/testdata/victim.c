/* The first thing it does is what the guard is for: with an argument above 100
 * lookup reads address 0, unless the guard stands in front. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((noipa)) int lookup(int n)
{
	volatile char *table = n > 100 ? 0 : "ok";
	return n + table[0] * 0;
}

int main(int argc, char **argv)
{
	errno = 0;
	int r = lookup(argc > 1 ? atoi(argv[1]) : 101);
	if (r == -1 && errno == EINVAL)
		return 7;
	return r == 4 ? 4 : 1;
}
