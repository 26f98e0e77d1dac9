/* crasher: calls until a line on stdin says how to crash: "own" in a function of its
 * own, "moved" in the first instruction of the guarded function, "stack" below it. */
#include "host.h"
#include <fcntl.h>

__asm__(".globl guarded\n.type guarded, @function\n"
	"guarded:\n\tmovsbl (%rsi), %eax\n\tlea (%rdi,%rdi,2), %ecx\n\tlea 1(%rax,%rcx), %eax\n\tret\n"
	".size guarded, . - guarded\n");

__attribute__((noinline)) static int own(volatile int *p) { return *p; }

int main(void)
{
	fcntl(0, F_SETFL, O_NONBLOCK);
	ready();
	for (unsigned i = 0;; i++) {
		char line;
		call(guarded, i);
		if (i % 64 || read(0, &line, 1) != 1)
			continue;
		if (line == 'o')
			own((int *)8);
		guarded(1, (const char *)16);
	}
}
