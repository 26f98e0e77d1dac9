/* crasher: calls until a letter on stdin says how to crash. */
#include "host.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

/* The first two instructions are moved for a guard; the last one stays. */
__asm__(".globl guarded\n.type guarded, @function\n"
	"guarded:\n\tmovsbl (%rsi), %eax\n\tlea (%rdi,%rdi,2), %ecx\n\tlea 1(%rax,%rcx), %eax\n"
	"\tcmp $123456789, %edi\n\tje 1f\n\tret\n1:\tmovl $1, 8\n\tret\n"
	".size guarded, . - guarded\n");

__attribute__((noinline)) static int own(volatile int *p) { return *p; }

__attribute__((noinline)) static int deeper(volatile char *above)
{
	volatile char frame[4096];
	frame[0] = *above;
	return deeper(frame) + frame[0];
}

__attribute__((noinline)) static void smash(void)
{
	void *volatile *frame = __builtin_frame_address(0);
	frame[1] = (void *)0x6161616161;
}

static void *elsewhere(void *p) { return (void *)(long)own(p); }

static void crash(char how)
{
	pthread_t t;
	volatile int zero = 0;
	switch (how) {
	case 'o': own((int *)8); break;                             /* reads address 8 */
	case 'a': abort();
	case 'i': __builtin_trap();                                 /* an undefined instruction */
	case 'd': zero = 7 / zero; break;
	case 'r': deeper((char *)&zero); break;                     /* no stack is left */
	case 'w': ((void (*)(void))0x4141414141)(); break;          /* calls where nothing is */
	case 'x': ((void (*)(void))&stats)(); break;                /* runs data */
	case 'u': smash(); break;                                   /* returns to where nothing is */
	case 'l': zero = strlen((char *)24); break;                 /* in libc */
	case 'h': free((void *)&stats + 8); break;                  /* libc aborts */
	case 's': kill(getpid(), SIGSEGV); pause(); break;          /* somebody else sends the signal */
	case 't': pthread_create(&t, 0, elsewhere, (void *)8); pthread_join(t, 0); break;
	case 'b': guarded(123456789, "text"); break;                /* behind what is moved */
	case 'm': guarded(1, (const char *)16); break;              /* in what is moved */
	case 'f': guarded(1, (const char *)0x700000000000); break;  /* the same, by way of PIE's handler */
	}
}

int main(void)
{
	fcntl(0, F_SETFL, O_NONBLOCK);
	ready();
	for (unsigned i = 0;; i++) {
		char line;
		call(guarded, i);
		if (i % 64 == 0 && read(0, &line, 1) == 1)
			crash(line);
	}
}
