// A program whose main thread is free, and whose worker has a seccomp filter that
// kills for process_vm_readv(2) and blocks SIGSEGV: sandbox_test.go. It reads a
// command and a number a line, and answers with a number a line.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static sem_t asked, answered;
static long answer;

__attribute__((noinline, noclone, noipa)) int check(const char *s) { return (int)strlen(s); }

static void *work(void *unused)
{
	struct sock_filter code[] = {
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_process_vm_readv},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
	};
	struct sock_fprog program = {4, code};
	sigset_t faults;
	sigemptyset(&faults);
	sigaddset(&faults, SIGSEGV);
	pthread_sigmask(SIG_BLOCK, &faults, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	for (;;) {
		sem_post(&answered);
		sem_wait(&asked);
		answer = check("***");
	}
	return unused;
}

int main(void)
{
	char command[32];
	long n;
	pthread_t t;
	sem_init(&asked, 0, 0);
	sem_init(&answered, 0, 0);
	pthread_create(&t, 0, work, 0);
	sem_wait(&answered);
	setvbuf(stdout, 0, _IOLBF, 0);
	while (scanf("%31s %ld", command, &n) == 2) {
		if (strcmp(command, "worker") == 0) {
			sem_post(&asked);
			sem_wait(&answered);
			n = answer;
		}
		printf("%ld\n", n);
	}
	return 0;
}
