/* loops: each of three threads walks round a ring in walk, which is a loop from its first
 * instruction on, and looks where it got to. Nearly always all threads are in that loop.
 *
 * To any line it says how many calls were made and how many were rejected; a result that
 * neither walk nor a guard that rejects 77 rounds would give ends it with status 3. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

enum { NODES = 7 };
static struct node { struct node *next; } ring[NODES];
static uint64_t calls, rejected;

struct node *walk(struct node *at, long rounds);
__asm__(".text\n.globl walk\n.type walk,@function\n"
	"walk: .cfi_startproc\n"
	"	mov (%rdi), %rdi\n"
	"	dec %rsi\n"
	"	jne walk\n"
	"	mov %rdi, %rax\n"
	"	ret\n"
	"	.cfi_endproc\n.size walk, . - walk\n");

static void *walker(void *seed)
{
	uint64_t x = (uintptr_t)seed * 0x9e3779b97f4a7c15;
	for (;;) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		long from = x % NODES, rounds = x >> 8 & 15 ? 77 + (x >> 16) % 200000 : 77;
		struct node *to = walk(&ring[from], rounds);
		__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
		if (!to && rounds == 77)
			__atomic_add_fetch(&rejected, 1, __ATOMIC_RELAXED);
		else if (to != &ring[(from + rounds) % NODES]) {
			fprintf(stderr, "from %ld, %ld rounds: %p is not %p\n", from, rounds, (void *)to, (void *)&ring[(from + rounds) % NODES]);
			_exit(3);
		}
	}
	return 0;
}

int main(void)
{
	for (int i = 0; i < NODES; i++)
		ring[i].next = &ring[(i + 1) % NODES];
	for (long i = 1; i <= 3; i++) {
		pthread_t t;
		if (pthread_create(&t, 0, walker, (void *)i))
			return 1;
	}
	for (char line[64]; fgets(line, sizeof line, stdin);) {
		printf("%lu %lu\n", __atomic_load_n(&calls, __ATOMIC_RELAXED), __atomic_load_n(&rejected, __ATOMIC_RELAXED));
		fflush(stdout);
	}
}
