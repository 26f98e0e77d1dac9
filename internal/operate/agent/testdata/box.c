// A server that answers lines, and enters a seccomp sandbox so many milliseconds after its
// start as its first argument says. The filter answers process_vm_readv(2) as the second
// says: "kill", or an errno. Built with HIDDEN its file does not show that, and with BLOCKED
// it blocks SIGSEGV.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

__attribute__((noinline)) int serve(const char *text, int n)
{
	__asm__ volatile("" ::: "memory");
	return n + (text[0] == '1');
}

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#ifdef HIDDEN
static volatile unsigned one = 1;
#define NUMBER(n) ((n) - 1 + one)
#else
#define NUMBER(n) (n)
#endif

static void enter(const char *answer)
{
	unsigned ret = SECCOMP_RET_KILL_PROCESS;
	if (strcmp(answer, "kill"))
		ret = SECCOMP_RET_ERRNO | atoi(answer);
	struct sock_filter code[] = {
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch)},
		{BPF_JMP | BPF_JEQ | BPF_K, 1, 0, NUMBER(AUDIT_ARCH_X86_64)},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_process_vm_readv},
		{BPF_RET | BPF_K, 0, 0, ret},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
	};
	struct sock_fprog program = {sizeof code / sizeof code[0], code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(NUMBER(PR_SET_SECCOMP), SECCOMP_MODE_FILTER, &program))
		_Exit(4);
}

int main(int argc, char **argv)
{
	long at = now() + atol(argv[1]);
	int in = 0;
	char line[64];
	setvbuf(stdin, 0, _IONBF, 0);
#ifdef BLOCKED
	sigset_t fault;
	sigemptyset(&fault);
	sigaddset(&fault, SIGSEGV);
	sigprocmask(SIG_BLOCK, &fault, 0);
#endif
	for (;;) {
		struct pollfd p = {0, POLLIN, 0};
		long left = at - now();
		if (!in && left <= 0)
			enter(argv[2]), in = 1;
		if (poll(&p, 1, in ? -1 : (int)left) <= 0)
			continue;
		if (!fgets(line, sizeof line, stdin))
			return 0;
		printf("%d\n", serve(line, 7));
		fflush(stdout);
	}
}
