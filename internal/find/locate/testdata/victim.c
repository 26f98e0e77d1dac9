// A program with functions to find. It prints the run-time addresses of some
// of them and what their first bytes in memory are, then waits for its standard
// input to end.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/rseq.h>
#include <unistd.h>

int counter = 7;

static __attribute__((noinline)) int hidden(int n) {
	counter += n;
	return counter * 3;
}

__attribute__((noinline)) int shown(const char *s) {
	return (int)strlen(s) + hidden(2);
}

__attribute__((noinline, alias("shown"))) int also_shown(const char *s);

int main(void) {
	char *copy = strdup("x");
	char buf[64];
	volatile size_t two = 2;
	memcpy(buf, copy, two); // bound, so that which memcpy this is can be told
	printf("hidden %p\n", (void *)hidden);
	printf("shown %p\n", (void *)shown);
	printf("counter %p\n", (void *)&counter);
	// Not &strdup: in a fixed-address program that is a PLT entry.
	void *libc = dlopen("libc.so.6", RTLD_NOW);
	printf("strdup %p\n", dlsym(libc, "strdup"));
	printf("memcpy %p\n", dlsym(libc, "memcpy"));
	printf("stdout %p\n", (void *)&stdout);
	printf("environ %p\n", (void *)&environ);
	printf("errno %p\n", (void *)&errno);
	void *fs;
	__asm__("mov %%fs:0, %0" : "=r"(fs));
	printf("fs %p\n", fs);
	if (__rseq_size) // else none is registered
		printf("rseq %p\n", (void *)((char *)fs + __rseq_offset));
	printf("ready %d\n", shown(copy) > 0);
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
	return 0;
}
