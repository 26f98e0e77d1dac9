// A program whose functions are guarded by language_test.go. It reads a command
// and a number a line, and answers with a number a line.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define GUARDED __attribute__((noinline, noclone, noipa))

long limit = 40;

static char *page; // comes and goes

// descend returns how deep it came: the guard ends it with 0.
GUARDED long descend(long left)
{
	volatile char frame[200];
	frame[left & 127] = 1;
	return left == 0 ? 1 : 1 + descend(left - 1) + (frame[0] & 0);
}

GUARDED long lookup(long key) { return key + 1; }

// Callers that do something after the call: it is no tail call.
GUARDED long from_trusted(long key) { volatile long r = lookup(key); return r; }
GUARDED long from_other(long key) { volatile long r = lookup(key); return r; }

static void *in_thread(void *n) { return (void *)descend((long)n); }

static long on_thread(long n)
{
	pthread_t t;
	void *r = 0;
	pthread_create(&t, 0, in_thread, (void *)n);
	pthread_join(t, &r);
	return (long)r;
}

static ucontext_t home, away;
static char stack[1 << 20];
static long away_result;

static void on_context(int n) { away_result = descend(n); }

static long on_coroutine(long n)
{
	getcontext(&away);
	away.uc_stack.ss_sp = stack;
	away.uc_stack.ss_size = sizeof stack;
	away.uc_link = &home;
	makecontext(&away, (void (*)(void))on_context, 1, (int)n);
	swapcontext(&home, &away);
	return away_result;
}

static long in_child(long n)
{
	int p[2];
	long r = -1;
	if (pipe(p))
		return -1;
	if (fork() == 0) {
		r = lookup(n);
		_exit(write(p[1], &r, sizeof r) != sizeof r);
	}
	if (read(p[0], &r, sizeof r) != sizeof r)
		r = -1;
	wait(0);
	close(p[0]);
	close(p[1]);
	return r;
}

static void *hammer(void *n)
{
	long ok = 0;
	for (long i = 0; i < (long)n; i++)
		ok += lookup(7) == 8;
	return (void *)ok;
}

// storm calls lookup n times in each of four threads, and returns how many calls
// came through.
static long storm(long n)
{
	pthread_t t[4];
	long sum = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], 0, hammer, (void *)n);
	for (int i = 0; i < 4; i++) {
		void *r = 0;
		pthread_join(t[i], &r);
		sum += (long)r;
	}
	return sum;
}

// edit is what a guard that writes stands in front of; it looks at nothing that
// may not be there.
GUARDED long edit(char *text, long n)
{
	__asm__ volatile("" ::: "memory");
	return text == page ? -3 : text[n];
}

static const char fixed[64] = "abc"; // in a page that cannot be written

// flap calls edit n times, and until another thread has taken its page away and
// brought it back as often as that matters. It returns how many calls missed it.
static volatile int flapping;
static volatile long rounds;

static void *take_away(void *unused)
{
	while (flapping) {
		munmap(page, 4096);
		usleep(50);
		mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		mprotect(page, 4096, PROT_READ);
		usleep(50);
		mprotect(page, 4096, PROT_READ | PROT_WRITE);
		rounds++;
	}
	return unused;
}

static long flap(long n)
{
	pthread_t t;
	long missed = 0;
	flapping = 1;
	rounds = 0;
	pthread_create(&t, 0, take_away, 0);
	while (n-- > 0 || rounds < 200)
		missed += edit(page, 0) != -3;
	flapping = 0;
	pthread_join(t, 0);
	return missed;
}

// block keeps the signals of faults from the main thread, so that pie cannot rely
// on them.
static long block(void)
{
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGSEGV);
	sigaddset(&s, SIGBUS);
	return sigprocmask(SIG_BLOCK, &s, 0);
}

// Functions that guards call.

// weigh looks a key up, sets errno and has a result in rax only.
GUARDED long weigh(const char *text, long a, long b, long c, long d, long e)
{
	errno = 5;
	return text[0] + 2 * a + 3 * b + 4 * c + 5 * d + 6 * e + 1000 * lookup(1);
}

// nine has three arguments on the stack.
GUARDED long nine(long a, long b, long c, long d, long e, long f, long g, long h, long i)
{
	return a + b + c + d + e + f + 10 * g + 100 * h + 1000 * i;
}

GUARDED double half(long n)
{
	volatile double d[8] = {n};
	for (int i = 1; i < 8; i++)
		d[i] = d[i - 1] / 2;
	return d[1];
}

// wait_here returns when release is written to.
static int released[2];

GUARDED long wait_here(long n)
{
	char c;
	return read(released[0], &c, 1) == 1 ? n : -1;
}

// leave_early does not return to who calls it, when somebody is prepared for that.
static jmp_buf early;
static int prepared;

GUARDED long leave_early(long n)
{
	if (prepared)
		longjmp(early, 1);
	return n;
}

static long jump(long n)
{
	long r = -4;
	prepared = 1;
	if (!setjmp(early))
		r = lookup(n);
	prepared = 0;
	return r;
}

static pthread_t waiting;

static void *edit_in_thread(void *n) { return (void *)edit("text", (long)n); }

static long finish(void)
{
	void *r = 0;
	if (write(released[1], "x", 1) != 1)
		return -9;
	pthread_join(waiting, &r);
	return (long)r;
}

// on_signal calls lookup on the stack of a signal handler.
static volatile long seen_there;

static void handler(int sig) { seen_there = lookup(sig); }

static long on_signal(long n)
{
	static char stack[1 << 16];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	sigaltstack(&ss, 0);
	sigaction(SIGUSR1, &sa, 0);
	raise(SIGUSR1);
	return seen_there + 0 * n;
}

int main(void)
{
	static char text[64];
	char cmd[32];
	long n;
	page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pipe(released))
		return 1;
	setvbuf(stdout, 0, _IOLBF, 0);
	while (scanf("%31s %ld", cmd, &n) == 2) {
		long r = -99 - (strnlen(cmd, sizeof cmd) == 0);
		if (!strcmp(cmd, "main")) r = descend(n);
		if (!strcmp(cmd, "thread")) r = on_thread(n);
		if (!strcmp(cmd, "coroutine")) r = on_coroutine(n);
		if (!strcmp(cmd, "lookup")) r = lookup(n);
		if (!strcmp(cmd, "trusted")) r = from_trusted(n);
		if (!strcmp(cmd, "other")) r = from_other(n);
		if (!strcmp(cmd, "child")) r = in_child(n);
		if (!strcmp(cmd, "storm")) r = storm(n);
		if (!strcmp(cmd, "limit")) r = limit = n;
		if (!strcmp(cmd, "block")) r = block();
		if (!strcmp(cmd, "errno")) errno = n, edit(text, 0), r = errno;
		if (!strcmp(cmd, "half")) r = half(n);
		if (!strcmp(cmd, "nine")) r = nine(1, 0, 0, 0, 0, 0, n, 2, 3);
		if (!strcmp(cmd, "jump")) r = jump(n);
		if (!strcmp(cmd, "signal")) r = on_signal(n);
		if (!strcmp(cmd, "begin")) r = pthread_create(&waiting, 0, edit_in_thread, (void *)n);
		if (!strcmp(cmd, "finish")) r = finish();
		if (!strcmp(cmd, "unused")) r = weigh(text, n, n, n, n, n) + wait_here(n) + leave_early(n);
		if (!strcmp(cmd, "edit")) strcpy(text, "0123456789"), r = edit(text, n);
		if (!strcmp(cmd, "text")) r = text[n];
		if (!strcmp(cmd, "fixed")) r = edit((char *)fixed, n);
		if (!strcmp(cmd, "null")) r = edit(0, n);
		if (!strcmp(cmd, "flap")) r = flap(n);
		printf("%ld\n", r);
	}
	return 0;
}
