/* storm RATE COUNT PATH [LIFE...]: forks COUNT children, RATE a second, whatever becomes of
 * those before; each executes PATH, a copy of this program. storm child NS LIFE: what they
 * execute. It calls the guarded function at once and when its standard input ends, or LIFE
 * milliseconds later unless that is 0, and writes one line: microseconds from before its
 * execve to its main, whether the first call was turned away, whether the last was, and
 * LIFE. Lives are given out in turn. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static volatile int table[128];

__attribute__((noipa)) int lookup(int n)
{
	table[n & 127] += n;
	return n;
}

static int child(long began, int life)
{
	char line[64];
	long took = now() - began;
	int first = lookup(101) == -1;
	struct pollfd in = {0, POLLIN, 0};
	if (life)
		poll(&in, 1, life);
	else
		while (read(0, line, sizeof line) > 0)
			;
	int n = snprintf(line, sizeof line, "%ld %d %d %d\n", took / 1000, first, lookup(101) == -1, life);
	return write(1, line, n) != n;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "child"))
		return child(atol(argv[2]), atoi(argv[3]));
	if (argc < 4)
		return 2;
	long rate = atol(argv[1]), count = atol(argv[2]), begin = now(), failed = 0;
	for (long i = 0; i < count; i++) {
		long wait = begin + i * 1000000000L / rate - now();
		if (wait > 0)
			usleep(wait / 1000);
		switch (fork()) {
		case 0: {
			char at[32];
			snprintf(at, sizeof at, "%ld", now());
			char *life = argc > 4 ? argv[4 + i % (argc - 4)] : "0";
			execl(argv[3], argv[3], "child", at, life, (char *)0);
			_exit(1);
		}
		case -1:
			failed++;
		}
	}
	fprintf(stderr, "%ld %ld\n", (now() - begin) / 1000, failed);
	for (int status; wait(&status) > 0;)
		if (status)
			fprintf(stderr, "ended with %#x\n", status);
	return 0;
}
