/* The floor of every stop-the-world: seizes, interrupts, waits for and detaches
 * each thread of a process, and does nothing else.
 *   stopper PID
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int n, char **arguments)
{
	static int tids[65536];
	int count = 0;
	char path[64];
	if (n != 2)
		return fputs("usage: stopper PID\n", stderr), 2;
	snprintf(path, sizeof path, "/proc/%d/task", atoi(arguments[1]));
	DIR *tasks = opendir(path);
	if (!tasks)
		return perror(path), 1;
	for (struct dirent *e; (e = readdir(tasks)) && count < 65536;)
		if (atoi(e->d_name) > 0 && !ptrace(PTRACE_SEIZE, atoi(e->d_name), 0, 0))
			tids[count++] = atoi(e->d_name);
	for (int i = 0; i < count; i++)
		ptrace(PTRACE_INTERRUPT, tids[i], 0, 0);
	for (int stopped = 0, status; stopped < count; stopped++)
		if (waitpid(-1, &status, __WALL) < 0)
			break;
	for (int i = 0; i < count; i++)
		ptrace(PTRACE_DETACH, tids[i], 0, 0);
	return count == 0;
}
