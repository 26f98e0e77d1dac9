// Programs in situations that a tracer meets. It speaks as victim.c does.
//
//	situation NAME
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t progress;
static pthread_t workers[4];

__attribute__((noinline, aligned(64))) static int answer(int x)
{
	__asm__ volatile("" ::: "memory");
	return x + 1;
}

static void wrong(const char *what, long a, long b)
{
	printf("wrong: %s: %ld, %ld\n", what, a, b);
	fflush(stdout);
	_exit(1);
}

static void rest(long ns)
{
	struct timespec t = {0, ns};
	nanosleep(&t, NULL);
}

// storm: numbered real-time signals at thread 0, which computes and sleeps in
// turns. None may be lost, none doubled, none out of order.
static _Atomic uint64_t arrived, sent;

static void on_number(int sig, siginfo_t *info, void *context)
{
	uint64_t n = (uint64_t)info->si_value.sival_ptr;
	if (n != arrived)
		wrong("signal number", n, arrived);
	arrived++;
}

static void *storm_target(void *arg)
{
	int ep = epoll_create1(0);
	struct epoll_event ev;
	for (uint64_t n = 0;; n++) {
		int r = n & 1 ? epoll_wait(ep, &ev, 1, 1) : 0;
		if (r != 0 && !(r == -1 && errno == EINTR))
			wrong("epoll_wait", r, errno);
		for (volatile int k = 0; k < 2000; k++)
			;
		progress++;
	}
	return NULL;
}

static void *storm_source(void *arg)
{
	for (;;) {
		union sigval v = {.sival_ptr = (void *)(uintptr_t)sent};
		if (sent - arrived < 500 && pthread_sigqueue(workers[0], SIGRTMIN, v) == 0)
			sent++;
		rest(200000);
	}
	return NULL;
}

// rseq: a long restartable sequence. While the thread is in it, its rseq_cs
// must stay set, and only the abort handler may clear it.
static struct rseq_cs sequence __attribute__((aligned(32)));
static _Atomic uint64_t aborts;

static void *rseq_worker(void *arg)
{
	struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	for (;;) {
		uint64_t left = 0, aborted = 0;
		__asm__ volatile(
			"lea 1f(%%rip), %%rax\n mov %%rax, 8+%[cs]\n"
			"lea 2f(%%rip), %%rcx\n sub %%rax, %%rcx\n mov %%rcx, 16+%[cs]\n"
			"lea 4f(%%rip), %%rax\n mov %%rax, 24+%[cs]\n"
			"lea %[cs], %%rax\n mov %%rax, 8(%[area])\n"
			"1: mov $100000, %%ecx\n"
			"5: dec %%ecx\n jnz 5b\n"
			"mov 8(%[area]), %[left]\n"
			"2: jmp 6f\n"
			".long 0x53053053\n" // RSEQ_SIG
			"4: mov $1, %[aborted]\n mov $1, %[left]\n"
			"6:\n"
			: [left] "=&r"(left), [aborted] "+&r"(aborted), [cs] "+m"(sequence)
			: [area] "r"(area)
			: "rax", "rcx", "memory", "cc");
		if (left == 0)
			wrong("sequence finished after it was forgotten", 0, 0);
		aborts += aborted;
		progress++;
	}
	return NULL;
}

static void *counter(void *arg)
{
	for (;; progress++)
		rest(1000000);
	return NULL;
}

// A thread whose stack has pages that were never there, and that nobody will ever give:
// userfaultfd(2) is to answer for them, and nothing reads what it asks.
static __attribute__((noinline)) void above_a_hole(void)
{
	volatile char hole[4 * 4096];
	__asm__ volatile("" : : "r"(hole) : "memory");
	counter(NULL);
	hole[0] = 0;
}

static void *withheld(void *arg)
{
	size_t size = 1 << 20;
	char *stack = arg;
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register missing = {
		.range = {(uintptr_t)stack, size}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	for (int i = 0; i < 9; i++) { // what counter() will touch, below the hole
		volatile char *p = (char *)__builtin_frame_address(0) - 4 * 4096 - i * 4096;
		*p = 0;
	}
	int fd = syscall(SYS_userfaultfd, 0);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &missing))
		wrong("userfaultfd", errno, 0);
	above_a_hole();
	return NULL;
}

static void start_withheld(void)
{
	size_t size = 1 << 20;
	pthread_attr_t attr;
	void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	madvise(stack, size, MADV_NOHUGEPAGE);
	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, stack, size);
	pthread_create(&workers[0], &attr, withheld, stack);
}

// Seccomp filters that give mmap the action; all else is allowed.
static void filter_mmap(uint32_t action)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof f / sizeof *f, f};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &p))
		wrong("seccomp", errno, 0);
}

static void serve(void)
{
	char line[64];
	printf("ready %p\n", (void *)answer);
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		printf("%lu %lu\n", (unsigned long)progress, (unsigned long)(aborts + arrived));
		fflush(stdout);
	}
	exit(0);
}

static void *serve_thread(void *arg)
{
	serve();
	return NULL;
}

int main(int argc, char **argv)
{
	const char *name = argv[1];
	struct sigaction sa = {.sa_sigaction = on_number, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigaction(SIGRTMIN, &sa, NULL);
	if (!strcmp(name, "storm")) {
		pthread_create(&workers[0], NULL, storm_target, NULL);
		pthread_create(&workers[1], NULL, storm_source, NULL);
	} else if (!strcmp(name, "rseq")) {
		pthread_create(&workers[0], NULL, rseq_worker, NULL);
	} else if (!strcmp(name, "withheld")) {
		start_withheld();
	} else {
		pthread_create(&workers[0], NULL, counter, NULL);
	}
	if (!strcmp(name, "leader")) {
		pthread_create(&workers[1], NULL, serve_thread, NULL);
		pthread_exit(NULL);
	}
	if (!strcmp(name, "exec")) { // a new program every 20 ms, with the same pid
		rest(20000000);
		if (argc == 2)
			printf("ready %p\n", (void *)answer), fflush(stdout);
		execl("/proc/self/exe", argv[0], "exec", "again", NULL);
	}
	if (!strcmp(name, "non-dumpable"))
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (!strcmp(name, "seccomp-allow"))
		filter_mmap(SECCOMP_RET_ALLOW);
	if (!strcmp(name, "seccomp-errno"))
		filter_mmap(SECCOMP_RET_ERRNO | EPERM);
	if (!strcmp(name, "seccomp-kill"))
		filter_mmap(SECCOMP_RET_KILL_PROCESS);
	serve();
}
