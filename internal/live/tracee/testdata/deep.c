// A program whose main thread has used, or uses, much of its stack. It speaks as
// victim.c does; main checks every byte of its own frames.
//
//	deep STATE
//
// Main comes back from 300 KiB down and then sleeps in the system call STATE, over
// and over; "join": for ever, in pthread_join. Or it stays down: "bottom" sleeps there,
// "spin" computes. "again" goes down to another depth all the time, "handler" does
// so in a signal handler, "inside" has the handler on an alternate stack that is a
// local array of main's, above what the signal has interrupted. "ended": main comes back and
// ends, and other threads run on.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t progress, interrupted;

__attribute__((noinline, aligned(64))) static int answer(int x)
{
	__asm__ volatile("" ::: "memory");
	return x + 1;
}

static void wrong(const char *what, long a, long b)
{
	printf("wrong: %s: %ld, %ld\n", what, a, b);
	fflush(stdout);
	_exit(1);
}

static void rest(long us)
{
	struct timespec t = {0, us * 1000};
	nanosleep(&t, NULL);
}

enum { FRAME = 4096, DEPTH = 75 };

// down makes calls of a page each. Three of four are zero, as bytes that nobody has
// used are; half of the fourth is written, the rest is whatever lay there.
__attribute__((noinline)) static void down(int depth, void (*bottom)(void))
{
	volatile unsigned char b[FRAME];
	int zero = depth & 3;
	int n = zero ? FRAME : FRAME / 2;
	for (int i = 0; i < n; i++)
		b[i] = zero ? 0 : depth + i;
	if (depth == 0)
		bottom();
	else
		down(depth - 1, bottom);
	for (int i = 0; i < n; i++)
		if (b[i] != (unsigned char)(zero ? 0 : depth + i))
			wrong("a byte of the stack", i, b[i]);
}

static void nothing(void) {}

static void sleep_at_the_bottom(void)
{
	for (int i = 0; i < 20; i++, progress++)
		rest(5000);
}

static void spin_at_the_bottom(void)
{
	for (int i = 0; i < 50; i++, progress++)
		for (volatile int k = 0; k < 2000000; k++)
			;
}

// In handlers.
static void linger(void)
{
	for (volatile int k = 0; k < 4000000; k++)
		;
	progress++;
}

static void on_alarm_down(int sig) { down(DEPTH, linger); }
static void on_alarm(int sig) { linger(); }

static void handle(void (*handler)(int), int flags)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = flags | SA_RESTART};
	struct itimerval t = {{0, 5000}, {0, 5000}};
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
}

static void wait_in_handlers(void)
{
	for (int i = 0; i < 20; i++)
		rest(5000);
}

static void inside(void)
{
	char local[64 << 10];
	stack_t ss = {.ss_sp = local, .ss_size = sizeof local};
	if (sigaltstack(&ss, NULL))
		wrong("sigaltstack", errno, 0);
	handle(on_alarm, SA_ONSTACK);
	for (;;)
		down(DEPTH, wait_in_handlers);
}

static int pipes[2];

static void call(const char *state)
{
	static int ep = -1, word;
	struct timespec t = {0, 20000000};
	struct pollfd p = {pipes[0], POLLIN, 0};
	struct epoll_event ev;
	sigset_t set;
	char c;
	int r = 0;
	if (!strcmp(state, "read")) {
		r = read(pipes[0], &c, 1) - 1;
	} else if (!strcmp(state, "poll")) {
		r = poll(&p, 1, 20);
	} else if (!strcmp(state, "epoll")) {
		if (ep < 0)
			ep = epoll_create1(0);
		r = epoll_wait(ep, &ev, 1, 20);
	} else if (!strcmp(state, "nanosleep")) {
		r = nanosleep(&t, NULL);
	} else if (!strcmp(state, "futex")) {
		r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);
		r = r == -1 && errno == ETIMEDOUT ? 0 : r;
	} else if (!strcmp(state, "sigtimedwait")) {
		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		r = sigtimedwait(&set, NULL, &t);
		r = r == -1 && errno == EAGAIN ? 0 : r;
	} else {
		wrong("no such state", 0, 0);
	}
	if (r == -1 && errno == EINTR)
		interrupted++;
	else if (r != 0)
		wrong(state, r, errno);
	progress++;
}

static void *feeder(void *arg)
{
	for (;; rest(5000))
		if (write(pipes[1], "x", 1) != 1)
			wrong("write", errno, 0);
	return NULL;
}

static void *counter(void *arg)
{
	for (;; progress++)
		rest(1000);
	return NULL;
}

static void *serve(void *arg)
{
	char line[64];
	printf("ready %p\n", (void *)answer);
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		printf("%lu %lu\n", (unsigned long)progress, (unsigned long)interrupted);
		fflush(stdout);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	const char *state = argv[1];
	sigset_t set, old;
	pthread_t t;
	if (pipe(pipes))
		return 2;
	sigfillset(&set);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	if (!strcmp(state, "read"))
		pthread_create(&t, NULL, feeder, NULL);
	if (!strcmp(state, "join") || !strcmp(state, "ended"))
		pthread_create(&t, NULL, counter, NULL);
	down(DEPTH, nothing);
	pthread_create(&t, NULL, serve, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!strcmp(state, "join"))
		pthread_join(t, NULL);
	if (!strcmp(state, "ended"))
		pthread_exit(NULL);
	if (!strcmp(state, "inside"))
		inside();
	if (!strcmp(state, "handler"))
		handle(on_alarm_down, 0);
	for (int i = 0;; i++) {
		if (!strcmp(state, "bottom"))
			down(DEPTH, sleep_at_the_bottom);
		else if (!strcmp(state, "spin"))
			down(DEPTH, spin_at_the_bottom);
		else if (!strcmp(state, "handler"))
			rest(1000);
		else if (!strcmp(state, "again"))
			down(i * 7 % 120, i % 3 ? nothing : linger);
		else
			call(state);
	}
}
