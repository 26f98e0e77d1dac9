/* The register oracle: enters a guard with every register filled from `state`,
 * and leaves every register as the guard left it in `state`. Static memory is
 * addressed from rip, so that no register is needed to do so.
 *
 * void oracle_call(void);   outcome becomes 1 when the guard passed, 2 when it
 *                           returned to the function's caller.
 */
	.bss
	.balign 32
	.globl state, outcome, entry
state:		.skip 128 + 16*32	/* gpr by hardware number, then ymm */
entry:		.skip 8
outcome:	.skip 8
saved_sp:	.skip 8

	.globl have_avx
have_avx:	.skip 8

	.text
	.globl oracle_call, oracle_passed, oracle_returned
oracle_call:
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, saved_sp(%rip)
	cmpl $0, have_avx(%rip)
	je 1f
	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	vmovups state+128+32*\n(%rip), %ymm\n
	.endr
	jmp 2f
1:
	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movups state+128+32*\n(%rip), %xmm\n
	.endr
2:
	mov state+8*0(%rip), %rax
	mov state+8*1(%rip), %rcx
	mov state+8*2(%rip), %rdx
	mov state+8*3(%rip), %rbx
	mov state+8*4(%rip), %rsp
	mov state+8*5(%rip), %rbp
	mov state+8*6(%rip), %rsi
	mov state+8*7(%rip), %rdi
	mov state+8*8(%rip), %r8
	mov state+8*9(%rip), %r9
	mov state+8*10(%rip), %r10
	mov state+8*11(%rip), %r11
	mov state+8*12(%rip), %r12
	mov state+8*13(%rip), %r13
	mov state+8*14(%rip), %r14
	mov state+8*15(%rip), %r15
	jmp *entry(%rip)

oracle_passed:
	movl $1, outcome(%rip)
	jmp 3f
oracle_returned:
	movl $2, outcome(%rip)
3:
	mov %rax, state+8*0(%rip)
	mov %rcx, state+8*1(%rip)
	mov %rdx, state+8*2(%rip)
	mov %rbx, state+8*3(%rip)
	mov %rsp, state+8*4(%rip)
	mov %rbp, state+8*5(%rip)
	mov %rsi, state+8*6(%rip)
	mov %rdi, state+8*7(%rip)
	mov %r8, state+8*8(%rip)
	mov %r9, state+8*9(%rip)
	mov %r10, state+8*10(%rip)
	mov %r11, state+8*11(%rip)
	mov %r12, state+8*12(%rip)
	mov %r13, state+8*13(%rip)
	mov %r14, state+8*14(%rip)
	mov %r15, state+8*15(%rip)
	mov saved_sp(%rip), %rsp
	cld
	cmpl $0, have_avx(%rip)
	je 4f
	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	vmovups %ymm\n, state+128+32*\n(%rip)
	.endr
	vzeroupper
	jmp 5f
4:
	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movups %xmm\n, state+128+32*\n(%rip)
	.endr
5:
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret
	.section .note.GNU-stack,"",@progbits
