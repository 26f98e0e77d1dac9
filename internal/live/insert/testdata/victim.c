/* victim THREADS FORKS TICKS IDLE LIFE HOLD: calls two guarded functions without end, checks every
 * result, and counts in shared memory. FORKS children a second are forked, each
 * of which calls for a while, too; TICKS signals a second interrupt it, or, when
 * there are none, threads wait in system calls that must not notice us. IDLE
 * threads only wait. For HOLD milliseconds a signal handler does not return, and
 * its frame returns to the third instruction of exe_guarded's site. A child lives for LIFE milliseconds, 2 by default. It says where everything is and then serves
 * until its standard input ends. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "guarded.h"

GUARDED(exe_guarded, 2);
int lib_guarded(int);

struct stats {
	_Atomic uint64_t calls, wrong, rejected, passed, children, badchildren, early;
};
static struct stats *stats;

/* Callee-saved registers and the red zone are checked by the compiler's own use
 * of them around the call. */
static void call(int (*f)(int), int factor, int n)
{
	int got = f(n), want = factor * n + 1;
	if (n < 0 && got == -7777)
		atomic_fetch_add(&stats->rejected, 1);
	else if (got != want)
		atomic_fetch_add(&stats->wrong, 1);
	else if (n < 0)
		atomic_fetch_add(&stats->passed, 1);
	atomic_fetch_add(&stats->calls, 1);
}

static void round_of_calls(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		call(exe_guarded, 2, i);
		call(lib_guarded, 3, i);
		if (i % 8 == 0) {
			call(exe_guarded, 2, -i - 1);
			call(lib_guarded, 3, -i - 1);
		}
	}
}

static void *work(void *arg)
{
	(void)arg;
	for (;;) {
		round_of_calls(200);
		nanosleep(&(struct timespec){0, 50000}, NULL);
	}
}

static void on_tick(int sig)
{
	(void)sig;
	/* Handlers call the guarded functions as well: guards are re-entrant. */
	call(exe_guarded, 2, 5);
	call(lib_guarded, 3, -5);
}

/* What no signal interrupts must not end early, nor with EINTR. */
static void *wait_in_epoll(void *arg)
{
	int fd = epoll_create1(0);
	(void)arg;
	for (;;)
		if (epoll_wait(fd, &(struct epoll_event){0}, 1, 30) != 0)
			atomic_fetch_add(&stats->early, 1);
}

static void *wait_in_sleep(void *arg)
{
	(void)arg;
	for (;;) {
		struct timespec a, b;
		clock_gettime(CLOCK_MONOTONIC, &a);
		if (nanosleep(&(struct timespec){0, 20000000}, NULL) != 0)
			atomic_fetch_add(&stats->wrong, 1);
		clock_gettime(CLOCK_MONOTONIC, &b);
		if ((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec < 20000000)
			atomic_fetch_add(&stats->wrong, 1);
	}
}

static void *wait_in_read(void *arg)
{
	int p[2];
	char c;
	(void)arg;
	if (pipe(p) == 0 && read(p[0], &c, 1) != 1)
		atomic_fetch_add(&stats->wrong, 1);
	return NULL;
}

static long life = 2;

/* As if the signal had come at the third instruction of the site. When the
 * handler returns, the real place is put back: nothing happens at the site. */
static long hold;

static void on_hold(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t rip = uc->uc_mcontext.gregs[REG_RIP];
	(void)sig, (void)info;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)exe_guarded + 8;
	usleep(hold * 1000);
	uc->uc_mcontext.gregs[REG_RIP] = rip;
}

static void *holder(void *arg)
{
	(void)arg;
	struct sigaction sa = {.sa_sigaction = on_hold, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &sa, NULL);
	pthread_kill(pthread_self(), SIGUSR1);
	return NULL;
}

static void *forker(void *arg)
{
	long rate = (long)arg;
	for (;;) {
		pid_t pid = fork();
		if (pid == 0) {
			uint64_t before = stats->wrong;
			round_of_calls(200);
			usleep(life * 1000);
			round_of_calls(200);
			_exit(stats->wrong != before);
		}
		int status;
		atomic_fetch_add(&stats->children, 1);
		usleep(1000000 / rate);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (status != 0)
				atomic_fetch_add(&stats->badchildren, 1);
	}
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	long forks = argc > 2 ? atol(argv[2]) : 0;
	int ticks = argc > 3 ? atoi(argv[3]) : 0;
	int idle = argc > 4 ? atoi(argv[4]) : 0;
	pthread_attr_t small;
	pthread_t t;

	if (argc > 5)
		life = atol(argv[5]);
	if (argc > 6)
		hold = atol(argv[6]);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	stats = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (threads < 0) { /* a single thread, which never rests */
		printf("exe=%p lib=%p stats=%p\n", (void *)exe_guarded, (void *)lib_guarded, (void *)stats);
		fflush(stdout);
		for (;;)
			round_of_calls(200);
	}
	for (int i = 0; i < threads; i++)
		pthread_create(&t, NULL, work, NULL);
	if (forks)
		pthread_create(&t, NULL, forker, (void *)forks);
	if (ticks) {
		struct itimerval it = {{0, 1000000 / ticks}, {0, 1000000 / ticks}};
		struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
		sigaction(SIGALRM, &sa, NULL);
		setitimer(ITIMER_REAL, &it, NULL);
	} else {
		pthread_create(&t, NULL, wait_in_epoll, NULL);
		pthread_create(&t, NULL, wait_in_sleep, NULL);
		pthread_create(&t, NULL, wait_in_read, NULL);
	}
	if (hold)
		pthread_create(&t, &small, holder, NULL);
	for (int i = 0; i < idle; i++)
		pthread_create(&t, &small, wait_in_read, NULL);
	printf("exe=%p lib=%p stats=%p\n", (void *)exe_guarded, (void *)lib_guarded, (void *)stats);
	fflush(stdout);
	char c;
	while (read(0, &c, 1) != 0)
		;
	return stats->wrong != 0;
}
