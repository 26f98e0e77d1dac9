# A 32-bit program without any library: pause(2) for ever.
	.globl _start
_start:
	movl $29, %eax
	int $0x80
	jmp _start
