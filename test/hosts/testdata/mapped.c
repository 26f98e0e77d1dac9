/* mapped FREE has as many mappings as it may have, but for FREE of them. */
#include "host.h"
#include <sys/mman.h>

static void *last[1024];

int main(int argc, char **argv)
{
	unsigned spare = argc > 1 ? atoi(argv[1]) : 0, n = 0;
	free(malloc(100)); /* the heap is there */
	for (;; n++) { /* no two neighbours alike */
		void *p = mmap(0, 4096, n & 1 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			break;
		last[n % 1024] = p;
	}
	for (unsigned i = 0; i < spare; i++)
		munmap(last[(n - 1 - i) % 1024], 4096);
	ready();
	for (unsigned i = 0;; i++)
		call(guarded, i);
}
