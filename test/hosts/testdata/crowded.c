/* crowded: all of the address space within 2 GiB below the program, and some above, is
 * reserved, as engines for JavaScript and Java do it. */
#include "host.h"
#include <sys/mman.h>

extern char __executable_start, end;

/* reserve takes what is free from one address to another, piece by piece. */
static void reserve(uintptr_t from, uintptr_t to)
{
	for (uintptr_t step = 1ul << 30; step >= 4096; step >>= 1)
		for (uintptr_t at = from; at + step <= to; at += step)
			mmap((void *)at, step, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

int main(void)
{
	uintptr_t here = (uintptr_t)&__executable_start, top = ((uintptr_t)&end + 4095) & ~4095ul;
	reserve(here - (2ul << 30), here);
	uintptr_t heap = (uintptr_t)sbrk(0);
	reserve(top, top + (8 << 20) < heap ? top + (8 << 20) : top);
	ready();
	for (unsigned i = 0;; i++)
		call(guarded, i);
}
