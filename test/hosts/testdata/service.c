/* service THREADS: a service as systemd's MemoryDenyWriteExecute and SystemCallFilter make
 * it, and stricter: memory can become executable in no way, a list of calls answers EPERM.
 * Each caller looks now and then whether all of that still holds. */
#include "host.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define PERMITTED BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define FORBIDDEN BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define UNLESS(call, past) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, past)

static int confine(void)
{
	struct sock_filter code[] = {
		LOAD(nr),
		UNLESS(SYS_rt_sigaction, 1), FORBIDDEN,
		UNLESS(SYS_process_vm_readv, 1), FORBIDDEN,
		UNLESS(SYS_process_vm_writev, 1), FORBIDDEN,
		UNLESS(SYS_ptrace, 1), FORBIDDEN,
		UNLESS(SYS_personality, 1), FORBIDDEN,
		UNLESS(SYS_munmap, 1), FORBIDDEN,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
		UNLESS(SYS_mprotect, 3),
		LOAD(args[2]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1), FORBIDDEN,
		PERMITTED,
	};
	struct sock_fprog p = {sizeof code / sizeof *code, code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &p);
}

/* Nothing is mapped, unmapped or changed by these: each is refused. */
static int confined(void)
{
	static char page[4096] __attribute__((aligned(4096)));
	return mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM &&
		mprotect(page, 4096, PROT_READ | PROT_EXEC) == -1 && errno == EPERM &&
		munmap(page, 4096) == -1 && errno == EPERM &&
		syscall(SYS_rt_sigaction, 1000, 0, 0, 8) == -1 && errno == EPERM;
}

static volatile int begun;

static void *caller(void *start)
{
	while (!begun)
		;
	for (unsigned i = (unsigned)(uintptr_t)start;; i++) {
		if (i % 64 == 0 && !confined())
			count(&stats.wrong);
		call(guarded, i);
	}
	return 0;
}

int main(int argc, char **argv)
{
	(void)argc;
	for (int i = 1; i < atoi(argv[1]); i++) {
		pthread_t t;
		if (pthread_create(&t, 0, caller, (void *)(uintptr_t)(i * 1000 + 1)))
			return 1;
	}
	usleep(100000); /* until the threads have begun, which takes other calls */
	if (confine() || !confined())
		return 1;
	ready();
	begun = 1;
	caller((void *)1);
}
