/* Structs of many shapes. */
#include <stdbool.h>
#include <stdint.h>

struct hidden;
struct node {
	struct node *next;
	struct hidden *other;
};
struct shapes {
	char small;
	unsigned flags;
	char text[16];
	uint16_t grid[3][4];
	struct {
		short x;
		long y;
	} inner;
	union {
		int only_in_first;
		long second;
	};
	unsigned bits : 3, more : 7;
	struct node *next;
	double ratio;
	__int128 wide;
	int key_type;
	bool done;
	void (*callback)(int);
	char flexible[];
};
struct __attribute__((packed)) packed {
	char c;
	int number;
	struct node inside;
};
typedef struct {
	struct {
		int x, y;
	} deep[2];
	struct point {
		int x, y;
	} point;
	union {
		int a;
		double b;
	} either;
} outer_t;

enum sign { MINUS = -1, PLUS = 1 };
enum { FIRST, SECOND };
typedef enum { SMALL } small_t;
union variant {
	int number;
	char text[12];
};
struct tail {
	const enum sign sign;
	small_t size;
	enum sign signs[2];
	union variant variant;
	int count;
	struct node items[];
};
struct tail *tail;

__attribute__((noipa)) int use(struct shapes *s, struct packed *p, outer_t *o, int key_type, bool done, float f, struct node by_value, int behind)
{
	return s->small + p->c + o->deep[0].x + key_type + done + (int)f + (by_value.next != 0) + behind;
}
__attribute__((noipa)) struct packed make(char c)
{
	struct packed p = {c, 1, {0, 0}};
	return p;
}
__attribute__((noipa)) double half(double x, long range, const char *type, int func, unsigned char len, char **list, int a6, int a7, int a8) { return x / 2 + range + len + a8; }
__attribute__((noipa)) __int128 wide(__int128 n, int behind) { return n + behind; }
__attribute__((noipa)) long double extended(long double x, bool b) { return x + b; }
__attribute__((noipa)) float single(float x) { return x; }
__attribute__((noipa)) void quiet(void) {}

int main(int argc, char **argv)
{
	static struct shapes s;
	static struct packed p;
	static outer_t o;
	struct node n = {0};
	tail = 0;
	quiet();
	if (wide(argc, 1) + extended(argc, true) + single(argc) == 1)
		return 1;
	return use(&s, &p, &o, argc, true, 1, n, 2) + make(1).number + (int)half(argc, 1, argv[0], 1, 2, argv, 6, 7, 8);
}
