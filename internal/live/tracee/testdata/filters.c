// A program under so many seccomp filters, each of which allows everything.
//
//	filters N
//
// It says how many there are, and waits for the end of its input.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
	struct sock_fprog program = {1, &allow};
	int n = 0;
	char c;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	while (n < atoi(argv[1]) && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
		n++;
	printf("ready %#x\n", n);
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}
