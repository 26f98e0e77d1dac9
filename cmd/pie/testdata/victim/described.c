/* Functions and structs for debug information to describe. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request {
	struct request *next;
	uint16_t count;
	char name[12];
	unsigned flag : 2;
	union {
		int a;
		long b;
	};
	const char *type;
	double ratio;
};

struct pair {
	long first, second;
};

__attribute__((noipa)) int answer_request(struct request *r, double ratio, size_t len, bool strict)
{
	return r->count + (int)ratio + (int)len + strict;
}

__attribute__((noipa)) struct pair by_value(long n)
{
	struct pair p = {n, n + 1};
	return p;
}
