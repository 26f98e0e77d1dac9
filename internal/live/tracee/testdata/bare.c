// The least a stop-the-world can do: seize, interrupt, wait, detach every
// thread of a process. It repeats ROUNDS times and prints for each the longest
// time a thread was off, in microseconds.
//
//	bare PID ROUNDS
#define _GNU_SOURCE
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int tids[4096];
static double began[4096];

int main(int argc, char **argv)
{
	int pid = atoi(argv[1]), rounds = atoi(argv[2]);
	char path[64];
	struct sched_param p = {1};
	sched_setscheduler(0, SCHED_FIFO, &p);
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	for (int round = 0; round < rounds; round++) {
		int n = 0;
		DIR *d = opendir(path);
		for (struct dirent *e; (e = readdir(d));)
			if (e->d_name[0] != '.')
				tids[n++] = atoi(e->d_name);
		closedir(d);
		for (int i = 0; i < n; i++)
			ptrace(PTRACE_SEIZE, tids[i], 0, 0);
		for (int i = 0; i < n; i++) {
			began[i] = now();
			ptrace(PTRACE_INTERRUPT, tids[i], 0, 0);
		}
		for (int i = 0; i < n; i++) {
			int status;
			waitpid(-1, &status, __WALL);
		}
		double longest = 0;
		for (int i = 0; i < n; i++) {
			ptrace(PTRACE_DETACH, tids[i], 0, 0);
			double off = now() - began[i];
			if (off > longest)
				longest = off;
		}
		printf("%.0f\n", longest);
		usleep(20000);
	}
	return 0;
}
