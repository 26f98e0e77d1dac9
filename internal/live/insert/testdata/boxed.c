/* boxed strict|filter CALLERS: CALLERS threads, each in a sandbox that ends the process for
 * any call but read, write, exit and rt_sigreturn, call a guarded function without end and
 * check every result, and one more waits in read(2). "strict" is SECCOMP_MODE_STRICT, in
 * which even rdtsc ends a thread. It says where everything is before, and serves until its
 * standard input ends. A byte 'x' on it has the process make a forbidden call.
 * FILL_TEXT and FILL_DATA move the ends of its segments. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guarded.h"

GUARDED(exe_guarded, 2);

#define TEXT(n) #n
#define FILL(n) __asm__(".text\n.skip " TEXT(n) ", 0x90\n")
FILL(FILL_TEXT);
static volatile char fill[FILL_DATA + 1];

static struct {
	_Atomic uint64_t calls, wrong, rejected, passed, children, badchildren, early;
} stats;

static const char *mode;

static void sandbox(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	int bad;
	if (strcmp(mode, "strict") == 0)
		bad = prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	else
		bad = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	if (bad)
		_exit(3);
}

static void *work(void *arg)
{
	(void)arg;
	sandbox();
	for (int i = 0;; i = (i + 1) % 1000) {
		int n = i % 8 ? i : -i - 1, got = exe_guarded(n);
		if (n < 0 && got == -7777)
			atomic_fetch_add(&stats.rejected, 1);
		else if (got != 2 * n + 1)
			atomic_fetch_add(&stats.wrong, 1);
		else if (n < 0)
			atomic_fetch_add(&stats.passed, 1);
		atomic_fetch_add(&stats.calls, 1);
	}
}

int main(int argc, char **argv)
{
	pthread_t t;
	char c;
	mode = argv[argc > 1];
	fill[0] = 1;
	printf("exe=%p lib=0 stats=%p\n", (void *)exe_guarded, (void *)&stats);
	fflush(stdout);
	for (int i = 0; i < atoi(argv[2]); i++)
		if (pthread_create(&t, NULL, work, NULL))
			return 2;
	sandbox();
	while (read(0, &c, 1) == 1)
		if (c == 'x')
			syscall(SYS_getppid);
	syscall(SYS_exit, 0);
}
