// victim.c for static programs, which cannot look a symbol up.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static __attribute__((noinline)) int hidden(int n) { return n * 3 + 1; }

int main(int argc, char **argv) {
	void *fs;
	__asm__("mov %%fs:0, %0" : "=r"(fs));
	void *(*volatile copy)(void *, const void *, size_t) = memcpy;
	printf("hidden %p\n", (void *)hidden);
	printf("memcpy %p\n", (void *)copy);
	printf("errno %p\n", (void *)&errno);
	printf("fs %p\n", fs);
	printf("ready %d\n", hidden(argc));
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
	return 0;
}
