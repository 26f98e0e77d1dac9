/* moods MOOD FILE: calls check() with good strings all the time, and does what its mood is
 * once FILE is there: end; fault, long, reject: calls that the guard cannot read, is too
 * long with, or rejects. */
#include <string.h>
#include <unistd.h>

static volatile int table[128];

__attribute__((noipa)) int check(const char *s, int n)
{
	table[n & 127]++;
	return n;
}

int main(int argc, char **argv)
{
	for (;;) {
		int now = argc == 3 && access(argv[2], F_OK) == 0;
		for (int i = 0; i < 10; i++)
			check("good", 4);
		if (now && !strcmp(argv[1], "end"))
			return 0;
		if (now && !strcmp(argv[1], "fault"))
			check((const char *)0x123456789000, 4);
		if (now && !strcmp(argv[1], "long"))
			check("good", -1);
		if (now && !strcmp(argv[1], "reject"))
			check("*bad", 4);
		usleep(8000);
	}
}
