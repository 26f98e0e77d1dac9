// A program whose functions are known by where their addresses are kept.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long total;

// Each does much the same with other numbers, so that code alone tells them apart badly.
#define HANDLER(name, a, b, c)                                                                     \
	static int name(const unsigned char *p, int n) {                                               \
		long sum = a;                                                                              \
		if (n > 4096) return fprintf(stderr, #name ": %d characters are too many\n", n), abort(), 0; \
		for (int i = 0; i < n; i++) {                                                              \
			sum = sum * b + p[i];                                                                  \
			if (sum % 7 == c) sum ^= p[n - 1 - i] << 3;                                            \
			if (sum < 0) sum = -sum;                                                               \
		}                                                                                          \
		if (sum == a * 1000003L + b) fputs(#name " met its number\n", stderr), fflush(stderr);     \
		if (n == 77 * a + b) perror(#name);                                                        \
		total += sum;                                                                              \
		return (int)(sum & 0xff);                                                                  \
	}

HANDLER(do_open, 3, 5, 1)
HANDLER(do_close, 4, 5, 2)
HANDLER(do_read, 3, 6, 3)
#ifndef GONE
HANDLER(do_write, 4, 6, 4)
#endif
HANDLER(do_seek, 5, 5, 5)

// What nothing in the file calls: three functions with one code, between two with their own.
#define TWIN(name)                                                                                 \
	struct name##_s { int a, b, c; void *p; };                                                     \
	__attribute__((noinline, used)) static int name(struct name##_s *s, int n) {                   \
		if (!s || n < 0) return -1;                                                                \
		for (int i = 0; i < n; i++) {                                                              \
			if (!s[i].p) s[i].a++;                                                                 \
			else s[i].b += s[i].c;                                                                 \
		}                                                                                          \
		return s[0].a + s[0].b;                                                                    \
	}

__attribute__((noinline, used)) static int before_twins(const char *s) {
	if (!strcmp(s, "the first of the landmarks")) return puts("this message stands before the twins"), 1;
	return (int)strlen(s) * 3 + s[0];
}
TWIN(twin_one)
TWIN(twin_two)
TWIN(twin_three)
__attribute__((noinline, used)) static int after_twins(const char *s) {
	if (strcmp(s, "the second of the landmarks")) return puts("and that message stands behind all of them"), 2;
	return (int)strlen(s) * 5 - s[1];
}

static const struct handler {
	const char *name;
	int (*run)(const unsigned char *, int);
	int flags;
} handlers[] = {
	{"open", do_open, 1},
	{"close", do_close, 2},
	{"read", do_read, 4},
#ifndef GONE
	{"write", do_write, 8},
#endif
	{"seek", do_seek, 16},
};

int main(int argc, char **argv) {
#ifdef PATCHED
	if (argc > 9) return fprintf(stderr, "too many arguments were given to this program\n"), 3;
#endif
	for (int i = 1; i < argc; i++)
		for (unsigned k = 0; k < sizeof handlers / sizeof *handlers; k++)
			if (!strcmp(argv[i], handlers[k].name)) printf("the handler answered %d\n", handlers[k].run((unsigned char *)argv[i], (int)strlen(argv[i])));
	puts("usage: registry version 3.2.1 takes the names of handlers and runs one after another");
	puts("every handler computes a sum over the characters of its name and adds it to the total");
	puts("a total that is larger than what fits is written as its remainder and nothing is lost");
	puts("the sources of this program are short because they exist only for a test of places");
	return total == 42;
}
