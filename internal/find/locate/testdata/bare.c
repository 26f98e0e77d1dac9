// Functions in assembly that say less about themselves than a compiler does.
#include <stdio.h>
#include <unistd.h>

int no_size(void), no_size_framed(void), last(void);

__asm__(".text\n.globl no_size, no_size_framed, last\n"
	".type no_size, @function\n.p2align 4\nno_size: mov $7, %eax\n ret\n"
	".p2align 4\n"
	".type no_size_framed, @function\nno_size_framed: .cfi_startproc\n mov $8, %eax\n ret\n .cfi_endproc\n"
	".p2align 5\n"
	".type last, @function\nlast: mov $9, %eax\n ret\n.size last, .-last\n");

int main(void) {
	printf("no_size %p\nno_size_framed %p\nlast %p\nready\n", (void *)no_size, (void *)no_size_framed, (void *)last);
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
	return 0;
}
