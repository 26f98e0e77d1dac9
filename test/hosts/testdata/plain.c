/* plain SITUATION THREADS: threads that call as fast as they can. */
#include "host.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif

static void *caller(void *start)
{
	for (unsigned i = (unsigned)(uintptr_t)start;; i++)
		call(guarded, i);
	return 0;
}

static int is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* headroom leaves the address space n KiB to grow. */
static int headroom(long n)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (!f || fscanf(f, "%ld", &pages) != 1)
		return -1;
	fclose(f);
	struct rlimit l = {pages * 4096 + n * 1024, pages * 4096 + n * 1024};
	return setrlimit(RLIMIT_AS, &l);
}

/* What the process does to itself once its threads are there. */
static int become(const char *what)
{
	if (is(what, "nondumpable"))
		return prctl(PR_SET_DUMPABLE, 0);
	if (is(what, "mdwe"))
		return prctl(PR_SET_MDWE, 1, 0, 0, 0);
	if (is(what, "strict"))
		return prctl(PR_SET_SECCOMP, 1);
	if (is(what, "setuid"))
		return setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534);
	if (is(what, "tight"))
		return headroom(64);
	if (is(what, "roomy"))
		return headroom(16 << 10);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int threads = argc > 2 ? atoi(argv[2]) : 1;
	for (int i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, 0, caller, (void *)(uintptr_t)(i * 1000)))
			return 1;
	}
	ready();
	if (become(what)) {
		count(&stats.wrong);
		return 1;
	}
	if (is(what, "mainless")) {
		usleep(300000); /* while the test opens our memory */
		pthread_exit(0);
	}
	caller(0);
}
