/* A function whose first instructions the tests know byte for byte:
 *
 *	+0   f3 0f 1e fa   endbr64
 *	+4   55            push %rbp         the site: 8 bytes, 3 instructions
 *	+5   48 89 e5      mov %rsp,%rbp
 *	+8   48 83 ec 10   sub $16,%rsp
 *	+12                eax = FACTOR * edi + 1
 *
 * It starts 16 bytes into a cache line, so that the site lies in one.
 */
#define GUARDED(name, factor)                                                   \
	__asm__(".text\n.balign 64\n.skip 16, 0x90\n.globl " #name "\n"          \
		".type " #name ",@function\n" #name ":\n"                        \
		"endbr64\npush %rbp\nmov %rsp,%rbp\nsub $16,%rsp\n"              \
		"imul $" #factor ",%edi,%eax\nadd $1,%eax\nleave\nret\n"         \
		".size " #name ",.-" #name "\n.balign 64\n");                    \
	int name(int)
