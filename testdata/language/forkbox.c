// A server that works in a sandboxed child: sandbox_test.go. "start 0" ends the child
// there is, forks another one and answers with its pid; "ask N" answers with what the
// child's check says of N. The child's filter kills it for all but read, write and exit.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile long seen[64];

__attribute__((noinline, noclone, noipa)) int check(int n)
{
	seen[n & 63] += n;
	return n;
}

static void serve(int in, int out)
{
	struct sock_filter code[] = {
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
		{BPF_JMP | BPF_JEQ | BPF_K, 3, 0, SYS_read},
		{BPF_JMP | BPF_JEQ | BPF_K, 2, 0, SYS_write},
		{BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_exit_group},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
	};
	struct sock_fprog program = {6, code};
	int n;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	while (write(out, &n, sizeof n) == sizeof n && read(in, &n, sizeof n) == sizeof n)
		n = check(n);
	_exit(0);
}

int main(void)
{
	char command[32];
	long n;
	int to[2] = {-1, -1}, from[2] = {-1, -1}, got = 0;
	setvbuf(stdout, 0, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	while (scanf("%31s %ld", command, &n) == 2) {
		if (strcmp(command, "start") == 0) {
			close(to[1]), close(from[0]);
			while (wait(0) > 0)
				;
			if (pipe(to) || pipe(from))
				return 1;
			int pid = fork();
			if (pid == 0) {
				close(to[1]), close(from[0]);
				serve(to[0], from[1]);
			}
			close(to[0]), close(from[1]);
			if (read(from[0], &got, sizeof got) != sizeof got) // it is in its sandbox
				pid = -1;
			printf("%d\n", pid);
			continue;
		}
		got = n;
		if (write(to[1], &got, sizeof got) != sizeof got || read(from[0], &got, sizeof got) != sizeof got)
			got = -99;
		printf("%d\n", got);
	}
	return 0;
}
