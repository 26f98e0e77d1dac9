// A master with two workers; the first worker runs another program, which has
// a child that runs the master's program again. Each prints a name and its pid,
// and all end when the standard input does.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/prctl.h>

static void report(const char *name) {
	char line[64];
	int n = snprintf(line, sizeof line, "%s %d\n", name, getpid());
	if (write(1, line, n) != n)
		abort();
}

static void wait_for_end(void) {
	char b;
	while (read(0, &b, 1) > 0) {
	}
	exit(0);
}

int main(int argc, char **argv) {
	if (argc > 1) { // as a child of the other program
		report(argv[1]);
		wait_for_end();
	}
	prctl(PR_SET_NAME, "innocent"); // comm is no identity
	report("master");
	if (fork() == 0) {
		report("worker");
		wait_for_end();
	}
	if (fork() == 0) {
		report("shell");
		char command[4096];
		snprintf(command, sizeof command, "'%s' grandchild; :", argv[0]);
		execl("/bin/sh", "sh", "-c", command, NULL);
	}
	wait_for_end();
}
