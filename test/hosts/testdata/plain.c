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

/* killall has every thread killed for any call but read, write, exit and rt_sigreturn. */
static int killall(void)
{
	enum { LOAD = 0x20, IF_EQUAL = 0x15, RETURN = 0x06 }; /* of 32 bits at k; k; k */
	struct { unsigned short code; unsigned char yes, no; unsigned k; } code[] = {
		{LOAD, 0, 0, 0}, /* seccomp_data.nr */
		{IF_EQUAL, 4, 0, SYS_read},
		{IF_EQUAL, 3, 0, SYS_write},
		{IF_EQUAL, 2, 0, SYS_exit},
		{IF_EQUAL, 1, 0, SYS_rt_sigreturn},
		{RETURN, 0, 0, 0x80000000}, /* SECCOMP_RET_KILL_PROCESS */
		{RETURN, 0, 0, 0x7fff0000}, /* SECCOMP_RET_ALLOW */
	};
	struct { unsigned short len; void *filter; } p = {sizeof code / sizeof *code, code};
	usleep(100000); /* until the threads have begun, which takes other calls */
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		syscall(SYS_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */, 1 /* SECCOMP_FILTER_FLAG_TSYNC */, &p);
}

/* A thread of its own in strict mode, while the others are in none. */
static void *strict(void *arg)
{
	(void)arg;
	if (prctl(PR_SET_SECCOMP, 1))
		count(&stats.wrong);
	return caller(0);
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
	if (is(what, "strictthread")) {
		pthread_t t;
		return pthread_create(&t, 0, strict, 0);
	}
	if (is(what, "killall"))
		return killall();
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
