// Functions with the names compilers give to clones and parts.
#include <stdio.h>
#include <unistd.h>

#define CLONE(c_name, symbol) \
	__attribute__((noinline)) static int c_name(int n) __asm__(symbol); \
	static int c_name(int n) { return n + __LINE__; }

CLONE(work, "work")
CLONE(work_isra, "work.isra.0")
CLONE(work_part, "work.part.0")
CLONE(work_cold, "work.cold")
CLONE(only_constprop, "gone.constprop.1")
CLONE(privatised, "linked.lto_priv.0")
__attribute__((noinline)) static int twin(int n) { return n + 1; }
int other_twin(int n);

// As clang's control-flow integrity lays functions out: a name is that of an entry of a jump
// table, each with the size of the whole table, and the code has another one. Of one that
// nobody calls by pointer the entry may be gone.
CLONE(tabled, "tabled.cfi")
CLONE(second, "second.cfi")
CLONE(untabled, "untabled.cfi")
__asm__(".pushsection .text\n.p2align 3\n"
	".type tabled, @function\ntabled: .byte 0xe9\n.long tabled.cfi - . - 4\nint3\nint3\nint3\n.size tabled, 16\n"
	".type second, @function\nsecond: .byte 0xe9\n.long second.cfi - . - 4\nint3\nint3\nint3\n.size second, 16\n"
	".popsection");

// As clang's ThinLTO renames static functions that another module calls.
CLONE(thin, "thin.llvm.1234567890123")
CLONE(thincfi, "thincfi.5ce7abedf230ae4894031067e31b5fed.cfi")

int main(int argc, char **argv) {
	printf("twin %p\n", (void *)twin);
	printf("tabled %p\n", (void *)tabled);
	printf("second %p\n", (void *)second);
	printf("sum %x\n", work(argc) + work_isra(argc) + work_part(argc) + work_cold(argc) + only_constprop(argc) +
		privatised(argc) + tabled(argc) + second(argc) + untabled(argc) + thin(argc) + thincfi(argc) + twin(argc) + other_twin(argc));
	printf("ready\n");
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
	return 0;
}
