/* stacks coroutine|altstack|unreadable: calls from stacks that are small and have neighbours. */
#include "host.h"
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

enum { COROUTINES = 32, STACK = 16 << 10 };
static ucontext_t coroutines[COROUTINES], home;

static void coroutine(int k)
{
	for (unsigned i = k;; i++) {
		call(guarded, i);
		swapcontext(&coroutines[k], i % 2 ? &home : &coroutines[(k + 1) % COROUTINES]);
	}
}

static void coroutine_main(void)
{
	/* one mapping: what runs over its end is in its neighbour */
	char *stacks = mmap(0, COROUTINES * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int k = 0; k < COROUTINES; k++) {
		getcontext(&coroutines[k]);
		coroutines[k].uc_stack.ss_sp = stacks + k * STACK;
		coroutines[k].uc_stack.ss_size = STACK;
		makecontext(&coroutines[k], (void (*)(void))coroutine, 1, k);
	}
	ready();
	for (unsigned k = 0;; k++)
		swapcontext(&home, &coroutines[k % COROUTINES]);
}

int careful(int n, const char *text);

static const char *unreadable; /* what careful is called with, if anything */
static char *alternate;
static size_t canary_size = 4096;

static void handler(int sig)
{
	static unsigned i;
	(void)sig;
	call(guarded, i++);
	if (unreadable && careful(i % 1000 * 2, unreadable) != (int)(i % 1000 * 10))
		count(&stats.wrong);
}

static void altstack_main(void)
{
	/* as little as the kernel takes, above a canary */
	size_t least = getauxval(51 /* AT_MINSIGSTKSZ */);
	if (least < 2048)
		least = 2048;
	alternate = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(alternate, 0x5a, canary_size);
	stack_t s = {.ss_sp = alternate + canary_size, .ss_size = least + 512};
	struct sigaction a = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART};
	if (sigaltstack(&s, 0) || sigaction(SIGALRM, &a, 0))
		exit(1);
	struct itimerval t = {{0, 50}, {0, 50}};
	ready();
	setitimer(ITIMER_REAL, &t, 0);
	for (unsigned i = 0;; i++) {
		if (i % 4096 == 0)
			call(guarded, i / 4096);
		for (size_t k = 0; i % 65536 == 0 && k < canary_size; k++)
			if (alternate[k] != 0x5a)
				count(&stats.wrong);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "coroutine") == 0)
		coroutine_main();
	if (argc > 1 && strcmp(argv[1], "unreadable") == 0)
		unreadable = (char *)0x7fffffff000;
	altstack_main();
}
