/* A program with functions that are like each other, to be built several ways.
 * FIXED adds the check that the vulnerable parse_line lacks; GONE leaves it out; MENDED
 * changes it less than FIXED. TALKS has
 * messages by which two builds are known to be of one source; SPLIT moves parse_line's
 * code into another function. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line { int kind, length; char name[24]; long price; struct line *next; };
static struct line *lines;
static long total;

#define KEEP __attribute__((noinline, noclone))

#ifdef TALKS
const char *const help[] = {
	"shop version 1.2.3 reads lines of names and prices and adds up what every name has to pay",
	"usage: shop LINE... where each line begins with letters and has one number behind the comma",
	"names that are longer than twenty three letters are cut off without asking anybody for it",
	"prices without any dot count as whole coins; those with two dots are taken for a mistake",
};
#endif

#ifdef SPLIT
#define parse_line parse_inner
#endif
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
#ifdef MENDED
	if (n > 77) n = 77;
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
#ifdef SPLIT
#undef parse_line
static KEEP int parse_line(struct line *l, const char *s, int n)
{
	if (!s || n > 4096) return -3;
	return parse_inner(l, s, n) + 1;
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

#ifdef KIN /* one code with another callee or number each; KIN > 1 has one of them mended */
static KEEP int write_names(FILE *f, int level)
{
	struct line *l;
	int n = 0;
	for (l = lines; l; l = l->next)
		n += fprintf(f, "name %s of kind %d\n", l->name, l->kind) * level;
	return n;
}
static KEEP int write_total(FILE *f, int level)
{
	char text[64];
	if (total < 0 || level > 9) { perror("the total is below nothing"); return -1; }
	memset(text, 0, sizeof text);
	snprintf(text, sizeof text, "total %ld at level %d", total, level);
	return fwrite(text, strlen(text), 1, f) == 1;
}
#define SAVE(name, write, size, check) \
	static KEEP void *name(int *n) \
	{ \
		void *p = NULL; \
		FILE *f = tmpfile(); \
		if (!f) return NULL; \
		check \
		if (write(f, -1) > 0 && (p = malloc(size))) { \
			rewind(f); \
			*n = (int)fread(p, 1, size, f); \
		} \
		fclose(f); \
		return p; \
	}
SAVE(save_names, write_names, 800, )
SAVE(save_more, write_names, 900, )
#if KIN > 1
SAVE(save_total, write_total, 800,
	if (!n || total > 100000 || *n > 77) {
		const char *why = getenv("SHOP_WHY");
		fprintf(stderr, "nothing is saved: %s, %d of %ld\n", why ? strchr(why, ':') : "too much", n ? *n : 0, total);
		setvbuf(f, NULL, _IONBF, 0);
		if (fclose(f)) abort();
		return NULL;
	})
#else
SAVE(save_total, write_total, 800, )
#endif
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
#ifdef KIN
	printf("%p %p %p\n", save_names(&i), save_more(&i), save_total(&i));
#endif
#ifdef TALKS
	for (i = 0; argc > 9 && i < 4; i++) puts(help[i]);
#endif
	drop_all();
	return 0;
}
