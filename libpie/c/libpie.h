/* libpie for guards in C, compiled elsewhere and read by pie as an object file:
 *
 *	clang -target bpf -mcpu=v3 -O2 -g -c guard.c -o guard.o
 *	pie check guard.o
 *
 * -mcpu may be v1, v2 or v3, and -O1 or more is needed. clang up to 17 cannot divide
 * signed numbers for bpf: it ends with "unsupported signed division" (clang 14) or
 * crashes. Divide unsigned numbers, or shift.
 *
 * A guard is a function of one parameter. It reads the program's memory through
 * ordinary pointers: a read that cannot be done ends it with onfault. Without
 * PIE("cap write") it cannot write memory other than its own variables (512 bytes). It
 * has no global variables but constants, and calls only what is here and static
 * functions of its own.
 *
 *	#include "libpie.h"
 *
 *	PIE("id CVE-2024-31228");
 *
 *	PIE_GUARD("exe=redis-server func=stringmatchlen onfault=pass onfuel=reject:0")
 *	u64 match(struct pie_call *c)
 *	{
 *		s32 n = (s32)c->arg[1];
 *		if (n < 0 || n > 1 << 20 || pie_count(c->arg[0], n, '*') > 1000)
 *			return pie_reject(c, 0);
 *		return PIE_PASS;
 *	}
 */
#ifndef LIBPIE_H
#define LIBPIE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long s64;

/* The call. Its words are whole registers: cast an int argument to s32, since
 * what is above it is garbage. They are volatile so that each is read whole. */
struct pie_call {
	const volatile u64 arg[9]; /* C: 0 to 5, others on the stack; Go: 0 to 8 */
	const volatile u64 sp;     /* where the return address is; stack argument i of a C function is at sp + 8 + 8*i */
	const volatile u64 ret;    /* the return address */
	const volatile u64 reserved[5];
	volatile u64 result[9];
	volatile u64 xmm0;  /* the bits of a double result */
	volatile u64 error; /* errno */
	volatile u64 code;  /* what the event carries */
};

/* A line of the prepatch: "id CVE-…" (mandatory), "fixed …", "cap rewrite", "ref URL" …,
 * as //pie: lines of Go. */
#define PIE_NAME2(a, b) a##b
#define PIE_NAME(a, b) PIE_NAME2(a, b)
#define PIE(line) \
	static const char PIE_NAME(pie_line_, __COUNTER__)[] __attribute__((section(".pie"), used)) = line

/* On a guard: exe=, lib=, func=, onfault=, onfuel= …, as in //pie:guard. */
#define PIE_GUARD(keys) __attribute__((section("pie " keys), used))

/* Verdicts. Return them where they are made. */
#define PIE_PASS 0UL
#define PIE_INLINE static inline __attribute__((always_inline, unused))

/* The call goes on; an event carries the code. */
PIE_INLINE u64 pie_log(struct pie_call *c, u32 code)
{
	c->code = code;
	return 2;
}

/* The function returns v at once. */
PIE_INLINE u64 pie_reject(struct pie_call *c, u64 v)
{
	c->result[0] = v;
	return 0x101;
}

/* The function, which has no result, returns at once. */
PIE_INLINE u64 pie_reject_void(struct pie_call *c)
{
	(void)c;
	return 1;
}

/* errno is set and the function returns v. */
PIE_INLINE u64 pie_reject_errno(struct pie_call *c, s32 error, u64 v)
{
	c->error = (u64)error;
	c->result[0] = v;
	return 0x20101;
}

/* The function returns the double that has these bits. */
PIE_INLINE u64 pie_reject_double(struct pie_call *c, u64 bits)
{
	c->xmm0 = bits;
	return 0x10001;
}

/* The call goes on with argument word i, a constant, changed. Needs PIE("cap rewrite"). */
PIE_INLINE u64 pie_rewrite(struct pie_call *c, int i, u64 v)
{
	c->result[i] = v;
	return 3UL | 1UL << (18 + i);
}

/* The process ends with the code. Needs PIE("cap exit"). */
PIE_INLINE u64 pie_exit(struct pie_call *c, s32 code)
{
	c->result[0] = (u64)code;
	return 4;
}

/* Helpers. They read the program's memory in order and no further than their
 * answer needs. n is at most 16 MiB; more is a fault. */
static u64 (*const pie_count)(u64 addr, u64 n, u8 byte) __attribute__((unused)) = (void *)1;               /* how many bytes are byte */
static s64 (*const pie_index)(u64 addr, u64 n, u8 byte) __attribute__((unused)) = (void *)2;               /* the first byte, or -1 */
static u64 (*const pie_strlen)(u64 addr, u64 max) __attribute__((unused)) = (void *)3;                     /* of a C string; max without a NUL before it */
static s64 (*const pie_find)(u64 addr, u64 n, const void *s, u64 m) __attribute__((unused)) = (void *)4;   /* the first s, or -1; m is not 0 */
static u64 (*const pie_equal)(u64 addr, u64 n, const void *s, u64 m) __attribute__((unused)) = (void *)5;  /* 1 when n is m and the bytes are equal */
static u64 (*const pie_tid)(void) __attribute__((unused)) = (void *)6;                                     /* gettid(2) */
static u64 (*const pie_now)(void) __attribute__((unused)) = (void *)7;                                     /* ns of CLOCK_MONOTONIC */

/* The T at an address of the program. */
#define PIE_AT(T, addr) (*(const volatile T *)(u64)(addr))

/* With PIE("cap write"): sets the T at an address of the program, or n bytes of it to 0.
 * A write that cannot be done ends the guard with onfault. In audit mode, and when a
 * trial is over, the memory is read instead. */
#define PIE_PUT(T, addr, v) ((void)(*(volatile T *)(u64)(addr) = (v)))
static u64 (*const pie_zero)(u64 addr, u64 n) __attribute__((unused)) = (void *)10;

/* With PIE("cap call"): calls a function of the program, as C does, with up to six words.
 *
 *	PIE_FUNCTION(usable, "malloc_usable_size");
 *	...
 *	if (n > pie_invoke(usable, buf, 0, 0, 0, 0, 0).word)
 *
 * What it takes is not bounded, and what it changes stays. In audit mode, and when a trial
 * is over, the guard ends here with a pass. */
#define PIE_FUNCTION(id, name) static const char id[] __attribute__((section(".rodata.pie_functions"), unused)) = name

struct pie_returned {
	u64 word; /* rax */
	u64 xmm0; /* the bits of a double */
	s32 err;  /* what it set errno to, 0 if it did not */
};

static u64 (*const pie_call_function)(const void *fn, u64 *block) __attribute__((unused)) = (void *)11;

PIE_INLINE struct pie_returned pie_invoke(const char *fn, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	u64 block[8] = { a, b, c, d, e, f };
	struct pie_returned r;

	r.word = pie_call_function(fn, block);
	r.xmm0 = block[6];
	r.err = (s32)block[7];
	return r;
}

#endif
