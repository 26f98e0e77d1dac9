/* A program with functions that are like each other, to be built several ways.
 * FIXED adds the check that the vulnerable parse_line lacks; GONE leaves it out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line { int kind, length; char name[24]; long price; struct line *next; };
static struct line *lines;
static long total;

#define KEEP __attribute__((noinline, noclone))

#ifndef GONE
static KEEP int parse_line(struct line *l, const char *s, int n)
{
	int i, commas = 0;
#ifdef FIXED
	if (n < 0 || n >= 24 || memchr(s, 0, (size_t)n)) {
		fprintf(stderr, "line too long: %d\n", n);
		return -2;
	}
#endif
	memset(l, 0, sizeof *l);
	for (i = 0; i < n; i++) {
		if (s[i] == ',') {
			commas++;
			if (commas == 3) { l->kind = 7; break; }
		} else if (s[i] >= '0' && s[i] <= '9') {
			l->price = l->price * 10 + (s[i] - '0');
		} else {
			l->name[l->length++] = s[i];
		}
	}
	if (!l->length) { fprintf(stderr, "empty name in line of %d\n", n); return -1; }
	l->next = lines;
	lines = l;
	return l->length;
}
#endif

#ifdef FOLDED /* as compilers make one of two functions with the same code */
__asm__(".text\n.globl also\n.type also, @function\nalso: .cfi_startproc\n\tjmp parse_line\n\t.cfi_endproc\n.size also, . - also");
#endif

static KEEP int parse_price(struct line *l, const char *s, int n)
{
	int i, dots = 0;
	l->price = 0;
	for (i = 0; i < n; i++) {
		if (s[i] == '.') {
			dots++;
			if (dots == 2) { l->kind = 9; break; }
		} else if (s[i] >= '0' && s[i] <= '9') {
			l->price = l->price * 10 + (s[i] - '0');
		} else {
			fprintf(stderr, "bad price at %d\n", i);
			return -1;
		}
	}
	total += l->price;
	return dots;
}

static KEEP long sum_of(const char *name)
{
	long sum = 0;
	struct line *l;
	for (l = lines; l; l = l->next)
		if (!name || !strcmp(l->name, name))
			sum += l->price;
	return sum;
}

static KEEP void drop_all(void)
{
	while (lines) {
		struct line *l = lines;
		lines = l->next;
		total -= l->price;
		printf("dropped %s\n", l->name);
		free(l);
	}
}

static KEEP int tiny(int n) { return n * 3; }

/* Two functions of the same code. */
static KEEP int twin_a(const char *s) { int n = 0, v = 0; while (*s) { v = v * 33 + *s++; if (v % 7 == 3) n++; if (v > 1 << 20) v >>= 3; n ^= v & 15; } return n + v * 5; }
static KEEP int twin_b(const char *s) { int n = 0, v = 0; while (*s) { v = v * 33 + *s++; if (v % 7 == 3) n++; if (v > 1 << 20) v >>= 3; n ^= v & 15; } return n + v * 5; }

#ifdef TOLD /* who calls them tells the twins apart */
static KEEP int ask_a(const char *s) { printf("the first of the two says %d\n", twin_a(s)); return puts(s); }
static KEEP int ask_b(const char *s) { int v = twin_b(s); if (v > 100) fputs("too much for the second\n", stderr); return v / 3; }
#else
#define ask_a twin_a
#define ask_b twin_b
#endif

int main(int argc, char **argv)
{
	int i;
	for (i = 1; i < argc; i++) {
		struct line *l = malloc(sizeof *l);
		if (!l) return 1;
#ifndef GONE
		if (parse_line(l, argv[i], (int)strlen(argv[i])) < 0)
			free(l);
#else
		memset(l, 0, sizeof *l);
#endif
		if (parse_price(l, argv[i], 3) < 0) puts("no price");
	}
	printf("%ld of %ld, %d %d\n", sum_of(NULL), total, ask_a(argv[0]), ask_b(argv[0]) + tiny(argc));
	drop_all();
	return 0;
}
