/* hostile SEED: calls as plain does, and two more threads fight whoever looks at the process: they
 * change, move, protect and unmap PIE's memory, overwrite the end of the stack that remote
 * calls use, fork, vanish by exec, stop and rename themselves. What becomes of itself is
 * no matter. */
#define _GNU_SOURCE
#include "host.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct range { uintptr_t from, to; };
struct found { struct range code, state, shared, stack; };

/* find looks for code without a name, with data and shared memory right behind it. */
static int find(struct found *f)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], last_perms[5] = "", before_perms[5] = "";
	struct range last = {0, 0}, before = {0, 0};
	int there = 0;
	if (!maps)
		return 0;
	while (fgets(line, sizeof line, maps)) {
		struct range r;
		char perms[5], path[256] = "";
		if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %255s", &r.from, &r.to, perms, path) < 3)
			continue;
		if (!strcmp(path, "[stack]"))
			f->stack = r;
		if (!strcmp(before_perms, "r-xp") && !strcmp(last_perms, "rw-p") && !strcmp(perms, "rw-s") && last.to == r.from)
			f->code = before, f->state = last, f->shared = r, there = 1;
		before = last, last = r;
		strcpy(before_perms, last_perms), strcpy(last_perms, perms);
	}
	fclose(maps);
	return there;
}

static void scribble(struct range r, unsigned *seed)
{
	for (unsigned n = rand_r(seed) % 64; n; n--)
		*(volatile uint64_t *)(r.from + rand_r(seed) % ((r.to - r.from) / 8) * 8) = rand_r(seed) * (uint64_t)rand_r(seed);
}

static void fight(struct found *f, unsigned *seed, char *self)
{
	size_t state = f->state.to - f->state.from, shared = f->shared.to - f->shared.from;
	switch (rand_r(seed) % 40) {
	case 0:
		mprotect((void *)f->code.from, f->code.to - f->code.from, PROT_READ | PROT_WRITE | PROT_EXEC);
		break;
	case 1:
		mprotect((void *)f->state.from, state, PROT_NONE);
		break;
	case 2:
		munmap((void *)f->shared.from, shared);
		break;
	case 3:
		mremap((void *)f->state.from, state, state, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(f->state.from ^ (1ul << 32)));
		break;
	case 4: /* a larger one that says the same */
		mmap((void *)f->shared.to, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		break;
	case 5:
		if (fork() == 0)
			for (;;)
				scribble(f->shared, seed);
		break;
	case 6:
		execl("/proc/self/exe", self, "2", (char *)0);
		break;
	case 7:
		prctl(PR_SET_DUMPABLE, rand_r(seed) % 2);
		break;
	case 8:
		prctl(PR_SET_NAME, "\033[2J\n\"x");
		break;
	case 9: /* where frames of remote calls lie */
		for (volatile char *p = (char *)f->stack.from; p < (char *)f->stack.from + 16384; p++)
			*p = rand_r(seed);
		break;
	case 10:
		kill(getpid(), SIGSTOP);
		break;
	case 11:
		madvise((void *)f->state.from, state, MADV_DONTNEED);
		break;
	default:
		scribble(rand_r(seed) % 2 ? f->state : f->shared, seed);
	}
}

static char *name;

static void *fighter(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	for (struct found f;;) {
		memset(&f, 0, sizeof f);
		if (find(&f))
			fight(&f, &seed, name);
		usleep(rand_r(&seed) % 3000);
		while (waitpid(-1, 0, WNOHANG) > 0)
			;
	}
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t t;
	signal(SIGTTOU, SIG_IGN);
	name = argv[0];
	for (uintptr_t i = 0; i < 2; i++)
		if (pthread_create(&t, 0, fighter, (void *)(i + (argc > 1 ? atoi(argv[1]) * 2 : 0))))
			return 1;
	ready();
	for (unsigned i = 0;; i++)
		call(guarded, i);
}
