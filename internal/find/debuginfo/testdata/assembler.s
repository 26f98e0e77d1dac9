# A function with the debug information that an assembler makes: a name, and a
# type that is not one.
	.text
	.globl	by_hand
	.type	by_hand, @function
by_hand:
	movl	%edi, %eax
	ret
	.size	by_hand, .-by_hand
	.section .note.GNU-stack,"",@progbits
