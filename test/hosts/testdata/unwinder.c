/* unwinder libunwind|backtrace: a thread calls as fast as it can, and another one keeps sending it a
 * signal, whose handler unwinds the stack from wherever the thread is: in the caller, in the
 * function, in a guard. For each line on stdin it says "N MET OURS OURSMET": how often it unwound
 * and met the caller, and how often of that from code of no file. */
#define UNW_LOCAL_ONLY
#include "host.h"
#include <execinfo.h>
#include <fcntl.h>
#include <libunwind.h>
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

extern char __executable_start, etext;
static uint64_t unwound, met, ours, ours_met;
static int use_libunwind;

__attribute__((noinline, noclone, section(".text.calls"))) static void calls(unsigned i)
{
	call(guarded, i);
	__asm__ volatile("");
}

static int walk(void **frames, int most, void *context)
{
	if (!use_libunwind)
		return backtrace(frames, most);
	unw_cursor_t at;
	int n = 0;
	if (unw_init_local2(&at, context, UNW_INIT_SIGNAL_FRAME))
		return 0;
	do {
		unw_word_t ip;
		if (unw_get_reg(&at, UNW_REG_IP, &ip))
			break;
		frames[n++] = (void *)ip;
	} while (n < most && unw_step(&at) > 0);
	return n;
}

static void handler(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info;
	void *frames[64];
	char *pc = (char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	int n = walk(frames, 64, context), caller = 0;
	for (int i = 0; i < n; i++)
		caller |= (char *)frames[i] > (char *)calls && (char *)frames[i] < (char *)calls + 256;
	met += caller;
	if (pc < &__executable_start || pc >= &etext) {
		ours++;
		ours_met += caller;
	}
	__atomic_store_n(&unwound, unwound + 1, __ATOMIC_RELEASE);
}

static void *pest(void *caller)
{
	for (unsigned i = 0;; i++) {
		uint64_t before = __atomic_load_n(&unwound, __ATOMIC_ACQUIRE);
		pthread_kill(*(pthread_t *)caller, SIGUSR1);
		while (__atomic_load_n(&unwound, __ATOMIC_ACQUIRE) == before)
			;
		for (volatile unsigned k = 0; k < i % 211; k++)
			;
		char line[64];
		if (i % 256 == 0 && read(0, line, sizeof line) > 0)
			dprintf(1, "%lu %lu %lu %lu\n", unwound, met, ours, ours_met);
	}
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t self = pthread_self(), t;
	void *frames[8];
	use_libunwind = argc > 1 && !strcmp(argv[1], "libunwind");
	backtrace(frames, 8); /* its first call opens a library */
	fcntl(0, F_SETFL, O_NONBLOCK);
	struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
	if (sigaction(SIGUSR1, &a, 0) || pthread_create(&t, 0, pest, &self))
		return 1;
	ready();
	for (unsigned i = 0;; i++)
		calls(i);
}
