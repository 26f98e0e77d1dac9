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

// As clang's control-flow integrity lays a function out: its name is that of an entry of a
// jump table, and its code has another one.
CLONE(tabled, "tabled.cfi")
__asm__(".pushsection .text\n.p2align 3\n.type tabled, @function\ntabled: .byte 0xe9\n.long tabled.cfi - . - 4\nint3\nint3\nint3\n.size tabled, 8\n.popsection");

int main(int argc, char **argv) {
	printf("twin %p\n", (void *)twin);
	printf("tabled %p\n", (void *)tabled);
	printf("sum %x\n", work(argc) + work_isra(argc) + work_part(argc) + work_cold(argc) + only_constprop(argc) +
		privatised(argc) + tabled(argc) + twin(argc) + other_twin(argc));
	printf("ready\n");
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
	return 0;
}
