/* handmade: a function and its caller in assembler, which agree on more than the psABI:
 * the function changes eax and esi alone, as those of gcc's -fipa-ra, of a preserve_all
 * convention or of a runtime do, and may be called with a stack that is not aligned. The
 * caller has something in every other register, and looks for it afterwards. With PUSHES
 * the function begins as those of clang's preserve_most do: it saves what it uses. */
#include "host.h"

#ifdef PUSHES
#define BEGIN "push %r10\n xor %r10d, %r10d\n"
#define END "pop %r10\n"
#else
#define BEGIN
#define END
#endif

__asm__(
	".text\n.p2align 4\n.globl guarded\n.type guarded, @function\n"
	"guarded: " BEGIN "lea 1(%rdi,%rdi,2), %eax\n"
	"movsbl (%rsi), %esi\n"
	"add %esi, %eax\n" END
	"ret\n.size guarded, .-guarded\n");

/* keeps calls guarded(n, text); *changed counts the registers that were changed. */
int keeps(int n, const char *text, uint64_t *changed);
__asm__(
	".text\n.p2align 4\n.globl keeps\n.type keeps, @function\n"
	"keeps: push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
	"push %rdx\n push %rdi\n" /* nine words with the return address: not aligned */
	".set i, 1\n"
	".irp r, rcx, rdx, rbx, rbp, r8, r9, r10, r11, r12, r13, r14, r15\n"
	"mov $0x1234567 * i, %\\r\n .set i, i + 1\n .endr\n"
	".irp x, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"mov $0x7654321 * (\\x + 1), %rax\n movq %rax, %xmm\\x\n punpcklqdq %xmm\\x, %xmm\\x\n .endr\n"
	"call guarded\n"
	"xor %esi, %esi\n"
	".set i, 1\n"
	".irp r, rcx, rdx, rbx, rbp, r8, r9, r10, r11, r12, r13, r14, r15\n"
	"cmp $0x1234567 * i, %\\r\n je 1f\n inc %esi\n 1: .set i, i + 1\n .endr\n"
	"cmp (%rsp), %rdi\n je 1f\n inc %esi\n 1:\n"
	".irp x, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"mov $0x7654321 * (\\x + 1), %rcx\n movq %xmm\\x, %rdx\n cmp %rcx, %rdx\n je 1f\n inc %esi\n 1:\n"
	"punpckhqdq %xmm\\x, %xmm\\x\n movq %xmm\\x, %rdx\n cmp %rcx, %rdx\n je 1f\n inc %esi\n 1:\n .endr\n"
	"pop %rdi\n pop %rdx\n add %rsi, (%rdx)\n"
	"pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n.size keeps, .-keeps\n");

static uint64_t changed;

static int checked(int n, const char *text)
{
	uint64_t before = changed;
	int result = keeps(n, text, &changed);
	if (changed != before)
		count(&stats.wrong);
	return result;
}

int main(void)
{
	ready();
	for (unsigned i = 0;; i++)
		call(checked, i);
}
