// Runs single instructions for effects_test.go. Reads requests from stdin: a
// length and 15 bytes of code, the 16 general registers, the flags, all as
// little-endian 64-bit words. Answers: how it ended (0, or the signal), the
// registers, the flags, a hash of the scratch memory.
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Everything lies below 2 GiB, where code reaches it with absolute addresses.
#define CODE 0x10000000UL
#define STATE 0x11000000UL
#define SCRATCH 0x20000000UL
#define SCRATCH_SIZE 8192

struct request { uint8_t len, code[15]; uint64_t regs[16], flags; };
struct answer { uint64_t signal, regs[16], flags, hash; };
struct state { uint64_t in[16], in_flags, out[16], out_flags, rsp; };

static sigjmp_buf back;
static void caught(int s) { siglongjmp(back, s); }

static uint8_t *emit(uint8_t *p, const void *b, size_t n) { memcpy(p, b, n); return p + n; }

// move emits a move between register r and STATE + off.
static uint8_t *move(uint8_t *p, int store, int r, unsigned off)
{
	uint8_t b[8] = {0x48 | (r >> 3) << 2, store ? 0x89 : 0x8b, 0x04 | (r & 7) << 3, 0x25};
	uint32_t a = STATE + off;
	memcpy(b + 4, &a, 4);
	return emit(p, b, 8);
}

static uint8_t *stack(uint8_t *p, int pop, unsigned off)
{
	uint8_t b[7] = {pop ? 0x8f : 0xff, pop ? 0x04 : 0x34, 0x25};
	uint32_t a = STATE + off;
	memcpy(b + 3, &a, 4);
	return emit(p, b, 7);
}

static void build(const struct request *q)
{
	uint8_t *p = (uint8_t *)CODE;
	p = emit(p, "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57", 10);
	p = move(p, 1, 4, offsetof(struct state, rsp));
	p = stack(p, 0, offsetof(struct state, in_flags));
	p = emit(p, "\x9d", 1);
	for (int r = 0; r < 16; r++)
		p = move(p, 0, r, offsetof(struct state, in) + 8 * r);
	p = emit(p, q->code, q->len);
	for (int r = 0; r < 16; r++)
		p = move(p, 1, r, offsetof(struct state, out) + 8 * r);
	p = move(p, 0, 4, offsetof(struct state, rsp));
	p = emit(p, "\x9c", 1);
	p = stack(p, 1, offsetof(struct state, out_flags));
	emit(p, "\xfc\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3", 12);
}

static void vectors(void)
{
	static const uint8_t pattern[16] = {1, 0, 0, 0, 0, 0, 0xf0, 0x3f, 9, 8, 7, 6, 5, 4, 3, 2};
	__asm__ volatile("fninit");
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroall");
#define X(n) __asm__ volatile("movdqu %0, %%xmm" #n : : "m"(pattern) : "xmm" #n)
	X(0); X(1); X(2); X(3); X(4); X(5); X(6); X(7); X(8); X(9); X(10); X(11); X(12); X(13); X(14); X(15);
}

int main(void)
{
	struct state *s = mmap((void *)STATE, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	uint8_t *scratch = mmap((void *)SCRATCH, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap((void *)CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	static uint8_t alternate[65536];
	stack_t st = {.ss_sp = alternate, .ss_size = sizeof alternate};
	sigaltstack(&st, 0);
	struct sigaction sa = {.sa_handler = caught, .sa_flags = SA_ONSTACK | SA_NODEFER};
	int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
	for (int i = 0; i < 5; i++)
		sigaction(signals[i], &sa, 0);
	struct request q;
	while (fread(&q, sizeof q, 1, stdin) == 1) {
		struct answer a = {0};
		for (int i = 0; i < SCRATCH_SIZE; i++)
			scratch[i] = i * 7 + i / 256;
		memcpy(s->in, q.regs, sizeof s->in);
		s->in_flags = q.flags;
		build(&q);
		int sig = sigsetjmp(back, 0);
		if (sig == 0) {
			vectors();
			((void (*)(void))CODE)();
		} else {
			__asm__ volatile("cld");
			a.signal = sig;
		}
		memcpy(a.regs, s->out, sizeof a.regs);
		a.flags = s->out_flags;
		a.hash = 14695981039346656037UL;
		for (int i = 0; i < SCRATCH_SIZE; i++)
			a.hash = (a.hash ^ scratch[i]) * 1099511628211UL;
		fwrite(&a, sizeof a, 1, stdout);
	}
	return 0;
}
