/* A server whose lookup() has the vendor's fix with -DFIXED. Each line that is read is
 * answered with what lookup says of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hits[64], misses;

__attribute__((noipa)) int lookup(int n)
{
	char name[32];
	int sum = 0;
#ifdef FIXED
	if (n < 0 || n > 100) {
		misses++;
		return -2;
	}
#endif
	snprintf(name, sizeof name, "%d", n);
	for (size_t i = 0; i < strlen(name); i++)
		sum = sum * 31 + name[i];
	hits[sum & 63]++;
	if (hits[sum & 63] > 1000)
		fprintf(stderr, "%s is asked for often, %d misses\n", name, misses);
	return n;
}

int main(void)
{
	char line[64];
	setvbuf(stdout, 0, _IONBF, 0);
	while (fgets(line, sizeof line, stdin))
		printf("%d\n", lookup(atoi(line)));
	return 0;
}
