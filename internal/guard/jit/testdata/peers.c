/* Guards in C, compiled by gcc -O2, that a plain detour reaches: what a scan by a
 * guard is measured against. Each answers whether the call is to be rejected. The
 * loops are written by hand, as in the guards that people write; the others
 * call the C library, whose code is chosen for the processor. */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>

typedef const unsigned char *text;

static uint64_t register_compare(text a, int n) { return n > 1024 || !a; }

static uint64_t field(text a) { return *(const uint32_t *)(a + 16) > 1u << 31; }

static uint64_t count(text a, int n) {
	int k = 0;
	for (int i = 0; i < n; i++) k += a[i] == '*';
	return k > 10;
}

static uint64_t find(text a, int n) {
	for (int i = 0; i < n; i++) if (a[i] == '*') return 1;
	return 0;
}

static uint64_t length(text a) {
	int n = 0;
	while (n < 4096 && a[n]) n++;
	return n > 1000;
}

static uint64_t compare(text a, int n, text b) {
	for (int i = 0; i < n; i++) if (a[i] != b[i]) return 1;
	return 0;
}

static uint64_t substring(text a, int n) {
	for (int i = 0; i + 2 < n; i++) if (a[i] == '.' && a[i + 1] == '.' && a[i + 2] == '/') return 1;
	return 0;
}

static uint64_t lib_find(text a, int n) { return memchr(a, '*', n) != NULL; }
static uint64_t lib_length(text a) { return strnlen((const char *)a, 4096) > 1000; }
static uint64_t lib_compare(text a, int n, text b) { return memcmp(a, b, n) != 0; }
static uint64_t lib_substring(text a, int n) { return memmem(a, n, "../", 3) != NULL; }

/* In the order of the names in peer_bench_test.go. */
void *const peers[] = {
	register_compare, field, count, find, length, compare, substring, lib_find, lib_length, lib_compare, lib_substring,
};
const uint32_t peers_count = sizeof peers / sizeof *peers;
