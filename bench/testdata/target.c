/* The bench's target: guarded functions beside twins that are never guarded, and
 * one with a detour that was written by hand.
 *
 *   target cost THREADS        every thread calls each function and its twin in turn
 *   target pause THREADS       thread 0 spins on the clock, half of the others sleep to
 *                              deadlines, half wait in epoll_wait
 *
 * Each line on stdin asks for a report on stdout, over the time since the last one:
 *   cost:  NAME TWIN_NS ADDED_NS DETOUR_NS RATIO, a line a function, then ".": a call of the
 *          twin, what the function and the detour take more (0 where there is none), and how
 *          many times a call with the detour the function takes; each a median over samples
 *          that were taken one right after the other
 *   pause: GAP_US LATE_US EINTR        largest gap of the spinner, largest lateness of a
 *                                      sleeper, system calls that were seen to be interrupted
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

struct message {
	int kind;
	unsigned length;
	const char *text;
};

/* A function and its twin have one body: a few operations that depend on the
 * arguments, so that a call costs what a small real one does. Built with
 * -fno-ipa-icf, or the compiler would make the two one. */
#define FUNCTION(name, parameters, body)                                             \
	__attribute__((noinline, noclone, aligned(64))) int name parameters body     \
	__attribute__((noinline, noclone, aligned(64))) int name##_twin parameters body

#define MIX(a, b)                                      \
	{                                              \
		unsigned h = (unsigned)(a) * 2654435761u; \
		h ^= (unsigned)(b) + (h >> 15);        \
		__asm__ volatile("" : "+r"(h));        \
		return (int)(h & 0x7fffffff);          \
	}

FUNCTION(compare, (const char *text, int length), MIX(text[0], length))
FUNCTION(field, (struct message *m), MIX(m->kind, m->text[0]))
FUNCTION(text, (const char *text), MIX(text[0], text[1]))

/* compare, as gcc makes it, with a guard that somebody who has the source and an
 * assembler would write: one jump there, a count that no other thread shares, the
 * compare, the moved instructions, one jump back. No detour that counts is cheaper. */
static __thread long detour_calls __attribute__((used));
int compare_detour(const char *text, int length);
__asm__(".text\n.balign 64\n.globl compare_detour\n.type compare_detour, @function\n"
	"compare_detour:\n"
	"jmp compare_block\n.nops 4\n" /* instead of the first two instructions */
	"compare_back:\n"
	"mov %ecx, %edx\nshr $15, %edx\nlea (%rdx,%rsi), %eax\nxor %ecx, %eax\nand $0x7fffffff, %eax\nret\n"
	".size compare_detour, . - compare_detour\n"
	".pushsection .detour, \"ax\", @progbits\n.balign 4096\n"
	"compare_block:\n"
	"incq %fs:detour_calls@tpoff\n"
	"cmp $4096, %esi\njg compare_bad\n"
	"movsbl (%rdi), %ecx\nimul $2654435761, %ecx, %ecx\njmp compare_back\n"
	"compare_bad: mov $-22, %eax\nret\n"
	".popsection");

static char text256[257];
static struct message message = {7, 256, text256};

static int call_compare(void) { return compare(text256, 16); }
static int call_compare_twin(void) { return compare_twin(text256, 16); }
static int call_compare_detour(void) { return compare_detour(text256, 16); }
static int call_field(void) { return field(&message); }
static int call_field_twin(void) { return field_twin(&message); }
static int call_text(void) { return text(text256); }
static int call_text_twin(void) { return text_twin(text256); }

static struct {
	const char *name;
	int (*function)(void), (*twin)(void), (*detour)(void);
} functions[] = {
	{"compare", call_compare, call_compare_twin, call_compare_detour},
	{"field", call_field, call_field_twin, 0},
	{"text", call_text, call_text_twin, 0},
};
enum { FUNCTIONS = sizeof functions / sizeof *functions, SAMPLES = 4096, CALLS = 1000 };

static int threads;
static atomic_int running;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* cost: thread 0 keeps the samples, the others only make it contended. */
static struct sample { double twin, function, detour; } samples[FUNCTIONS][SAMPLES];
static atomic_int taken, wanted = SAMPLES / 2;

static double batch(int (*f)(void))
{
	uint64_t start = now();
	for (int i = 0; i < CALLS; i++)
		f();
	return (double)(now() - start) / CALLS;
}

static void *cost(void *number)
{
	atomic_fetch_add(&running, 1);
	for (;;) {
		int k = atomic_load(&taken) % SAMPLES;
		for (int i = 0; i < FUNCTIONS; i++) {
			struct sample s = {batch(functions[i].twin), batch(functions[i].function), 0};
			if (functions[i].detour)
				s.detour = batch(functions[i].detour);
			if (!number)
				samples[i][k] = s;
		}
		if (!number)
			atomic_fetch_add(&taken, 1);
	}
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double twin_of(const struct sample *s) { return s->twin; }
static double added_of(const struct sample *s) { return s->function - s->twin; }
static double detour_of(const struct sample *s) { return s->detour ? s->detour - s->twin : 0; }
static double ratio_of(const struct sample *s) { return s->detour ? s->function / s->detour : 0; }

static double median(const struct sample *from, int n, double (*of)(const struct sample *))
{
	static double sorted[SAMPLES];
	for (int i = 0; i < n; i++)
		sorted[i] = of(&from[i]);
	qsort(sorted, n, sizeof *sorted, by_value);
	return sorted[n / 2];
}

static void report_cost(void)
{
	atomic_store(&taken, 0);
	while (atomic_load(&taken) < atomic_load(&wanted))
		usleep(1000);
	int n = atomic_load(&wanted);
	for (int i = 0; i < FUNCTIONS; i++)
		printf("%s %.4f %.4f %.4f %.4f\n", functions[i].name, median(samples[i], n, twin_of),
		       median(samples[i], n, added_of), median(samples[i], n, detour_of), median(samples[i], n, ratio_of));
	puts(".");
}

/* pause */
static _Atomic uint64_t gap, late;
static atomic_int interrupted, reset;

static void raise_to(_Atomic uint64_t *most, uint64_t value)
{
	uint64_t old = atomic_load(most);
	while (old < value && !atomic_compare_exchange_weak(most, &old, value))
		;
}

static void *spin(void *unused)
{
	(void)unused;
	atomic_fetch_add(&running, 1);
	for (uint64_t last = now(), next;; last = next) {
		compare(text256, 16);
		next = now();
		if (atomic_exchange(&reset, 0))
			next = now();
		else
			raise_to(&gap, next - last);
	}
	return 0;
}

static void *sleeper(void *number)
{
	const uint64_t period = threads > 200 ? 400000000 : 100000000;
	atomic_fetch_add(&running, 1);
	uint64_t deadline = now() + period * ((intptr_t)number % 97) / 97;
	for (;;) {
		struct timespec t = {deadline / 1000000000, deadline % 1000000000};
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0) == EINTR) {
			atomic_fetch_add(&interrupted, 1);
			continue;
		}
		uint64_t woken = now();
		if (woken > deadline)
			raise_to(&late, woken - deadline);
		compare(text256, 16);
		deadline += period;
		if (deadline < woken)
			deadline = woken + period;
	}
	return 0;
}

static void *waiter(void *unused)
{
	(void)unused;
	atomic_fetch_add(&running, 1);
	int e = epoll_create1(0);
	struct epoll_event event;
	for (;;)
		if (epoll_wait(e, &event, 1, -1) < 0 && errno == EINTR)
			atomic_fetch_add(&interrupted, 1);
	return 0;
}

static void report_pause(void)
{
	printf("%.1f %.1f %d\n", atomic_load(&gap) / 1e3, atomic_load(&late) / 1e3, atomic_load(&interrupted));
	atomic_store(&reset, 1);
	while (atomic_load(&reset))
		usleep(100);
	atomic_store(&gap, 0);
	atomic_store(&late, 0);
	atomic_store(&interrupted, 0);
}

int main(int n, char **arguments)
{
	if (n != 3 || (threads = atoi(arguments[2])) < 1)
		return fputs("usage: target cost|pause THREADS\n", stderr), 2;
	int pausing = !strcmp(arguments[1], "pause");
	memset(text256, 'x', 256);
	prctl(PR_SET_TIMERSLACK, 1);
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 << 10);
	for (intptr_t i = 0; i < threads; i++) {
		pthread_t id;
		void *(*role)(void *) = !pausing ? cost : i == 0 ? spin : i % 2 ? waiter : sleeper;
		if (pthread_create(&id, &small, role, (void *)i))
			return perror("pthread_create"), 1;
	}
	while (atomic_load(&running) < threads)
		usleep(1000);
	setvbuf(stdout, 0, _IOLBF, 0);
	puts("ready");
	for (char line[64]; fgets(line, sizeof line, stdin);)
		pausing ? report_pause() : report_cost();
	return 0;
}
