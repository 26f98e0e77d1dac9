// Structs and functions for DWARF to describe.
#include <stdint.h>

typedef unsigned short port_t;
struct list_node {
	struct list_node *next;
	port_t port;
	char name[3][5];
	unsigned flag_a : 3;
	double weight;
	const volatile uint8_t last;
};
typedef struct list_node ListNode;
typedef struct {
	int32_t first;
	union {
		int a;
		long b;
	} inner;
} anonymous_t;
struct hidden;
enum color { red, green };

static int inlined(int n) { return n * 77 + 1; }
int (*keep)(int) = inlined;

__attribute__((noinline)) long parameters(struct list_node *node, const char *text, unsigned char small, enum color c,
	double ratio, long count, void *any, anonymous_t by_value) {
	return node->port + text[0] + small + c + (long)ratio + count + (any != 0) + by_value.first + inlined((int)count);
}

/* What cannot return goes to a cold part: the function has ranges instead of a start. */
__attribute__((noipa)) int split(const char *text, _Bool strict, short limit) {
	if (text == 0 || (strict && limit < 0))
		__builtin_trap();
	return text[0] + limit;
}

/* Only called here, and does not use its first parameter: the compiler may leave it out. */
__attribute__((noinline)) static int trimmed(int unused, int n) { return n * n + 3; }
__attribute__((noipa)) void quiet(void) {}
__attribute__((noipa)) double half(double x) { return x / 2; }
__attribute__((noinline)) int nothing(void) { return 3; }

int main(int argc, char **argv) {
	ListNode n = {0};
	anonymous_t a = {0};
	quiet();
	if (trimmed(argc, argc * 2) == 5)
		return 9;
	return (int)half(argc) + (int)parameters(&n, argv[0], argc, red, 1.5, argc, 0, a) + nothing() + inlined(argc) + split(argv[0], argc > 1, (short)argc);
}
