/* ownthread: beside a thread of the C library's, one that the program has made by itself,
 * with a thread pointer that leads to memory which is not laid out as the C library's is,
 * and holds the program's own. */
#include "host.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { STACK = 64 << 10, OWN = 64 << 10 };

static unsigned char *own; /* the thread pointer is in its middle */

/* fill is what the thread keeps at own[k]: something where an rseq_cs would be, which is
 * 8 bytes behind a multiple of 32 (rseq(2)), and else zeros, which do for a cpu_id. */
static unsigned char fill(int k) { return k % 32 / 8 == 1 ? 0x5a : 0; }

static int by_itself(void *arg)
{
	(void)arg;
	for (unsigned i = 0;; i++) {
		call(guarded, i);
		if (i % 64)
			continue;
		for (int k = 0; k < OWN; k++)
			if (own[k] != fill(k))
				count(&stats.wrong);
	}
}

int main(void)
{
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	own = mmap(NULL, OWN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED || own == MAP_FAILED)
		return 1;
	for (int k = 0; k < OWN; k++)
		own[k] = fill(k);
	if (clone(by_itself, stack + STACK, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS, NULL, NULL, own + OWN / 2, NULL) < 0)
		return 1;
	ready();
	for (unsigned i = 0;; i++)
		call(guarded, i);
}
