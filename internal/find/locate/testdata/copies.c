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

int main(int argc, char **argv) {
	printf("twin %p\n", (void *)twin);
	printf("sum %x\n", work(argc) + work_isra(argc) + work_part(argc) + work_cold(argc) + only_constprop(argc) +
		privatised(argc) + twin(argc) + other_twin(argc));
	printf("ready\n");
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
	return 0;
}
