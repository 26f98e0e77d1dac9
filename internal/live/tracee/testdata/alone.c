// A program of one thread that computes, and checks what a call in its middle must
// not touch: general and vector registers, flags, the red zone, and its signals, one
// every millisecond. It speaks as victim.c does. The second number is the largest gap
// between two looks at the clock since it was last told, in microseconds.
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

__attribute__((noinline, aligned(64))) static int answer(int x)
{
	__asm__ volatile("" ::: "memory");
	return x + 1;
}

static volatile uint64_t alarms;

static void on_alarm(int sig) { alarms++; }

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

// Known values in registers, the carry flag and the red zone, checked after a spin of
// about 20 µs.
__attribute__((noinline)) static int spin(uint64_t round)
{
	uint64_t in[8], out[9];
	for (int k = 0; k < 8; k++)
		in[k] = (round << 8) + k * 0x0101010101010101;
	__asm__ volatile(
		"vmovdqu (%[in]), %%ymm0\n vmovdqu 32(%[in]), %%ymm13\n"
		"mov (%[in]), %%r12\n mov 8(%[in]), %%r13\n mov 16(%[in]), %%r8\n mov 24(%[in]), %%r11\n mov 32(%[in]), %%rax\n"
		"mov %%r13, -120(%%rsp)\n mov %%r12, -8(%%rsp)\n"
		"mov $20000, %%ecx\n stc\n"
		"1: dec %%ecx\n jnz 1b\n" // dec leaves the carry flag alone
		"sbb %%rdx, %%rdx\n mov %%rdx, 64(%[out])\n"
		"sub -120(%%rsp), %%r13\n sub -8(%%rsp), %%r12\n or %%r13, %%r12\n"
		"mov %%r12, 40(%[out])\n mov %%r8, 16(%[out])\n mov %%r11, 24(%[out])\n mov %%rax, 32(%[out])\n"
		"vextracti128 $1, %%ymm0, %%xmm1\n vmovdqu %%xmm1, (%[out])\n"
		"vextracti128 $1, %%ymm13, %%xmm1\n vmovdqu %%xmm1, 48(%[out])\n"
		:
		: [in] "r"(in), [out] "r"(out)
		: "rax", "rcx", "rdx", "r8", "r11", "r12", "r13", "xmm0", "xmm1", "xmm13", "memory", "cc");
	return out[0] == in[2] && out[1] == in[3] && out[2] == in[2] && out[3] == in[3] && out[4] == in[4] &&
	       out[5] == 0 && out[6] == in[6] && out[7] == in[7] && out[8] == ~0UL && answer(1) >= 2;
}

int main(void)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &sa, NULL);
	struct itimerval ms = {{0, 1000}, {0, 1000}};
	setitimer(ITIMER_REAL, &ms, NULL);
	printf("ready %p\n", (void *)answer);
	fflush(stdout);
	struct pollfd in = {0, POLLIN, 0};
	double last = now(), gap = 0;
	uint64_t alarmed = 0;
	for (uint64_t round = 1;; round++) {
		if (!spin(round)) {
			printf("wrong: registers, flags or the red zone in round %lu\n", (unsigned long)round);
			return 1;
		}
		double t = now();
		if (t - last > gap)
			gap = t - last;
		if (round % 1024 == 0) {
			if (alarms == alarmed) {
				printf("wrong: no signal in %lu rounds\n", (unsigned long)round);
				return 1;
			}
			alarmed = alarms;
			char line[64];
			if (poll(&in, 1, 0) == 1) {
				if (!fgets(line, sizeof line, stdin))
					return 0;
				printf("%lu %.0f\n", (unsigned long)round, gap);
				fflush(stdout);
				gap = 0;
			}
			t = now();
		}
		last = t;
	}
}
