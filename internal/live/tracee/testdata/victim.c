// A program that sits in one blocking call, over and over, in each of N
// threads, and checks every result itself. It prints one line a report and
// answers lines on stdin; a wrong result is printed at once and ends it.
//
//	victim STATE THREADS [eintr-allowed|eintr-wrong [mainless]]
//
// With "mainless" the main thread ends, and the others run on.
//
// stdout: "ready FUNCTION-ADDRESS", then on each line of stdin "PROGRESS EINTRS".
// PROGRESS grows by one when every thread has made another round since it last
// grew, or since the line "mark".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t interrupted;
_Atomic uint64_t rounds[64]; // that each thread has made
static int eintr_is_wrong = 1;

// What tests patch: the 1 becomes a 2.
__attribute__((noinline, aligned(64))) static int answer(int x)
{
	__asm__ volatile("" ::: "memory");
	return x + 1;
}

static void wrong(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	printf("wrong: ");
	vprintf(format, ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

#include "blocking.h"

static void do_vfork(long i, uint64_t round)
{
	pid_t child = vfork();
	if (child == 0) {
		struct timespec t = {0, TIMEOUT * 1000000};
		syscall(SYS_nanosleep, &t, NULL);
		_exit(7);
	}
	int status;
	if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7)
		wrong("vfork: status %#x, errno %d", status, errno);
}

// A child that shares the memory until its exec.
static void do_spawn(long i, uint64_t round)
{
	char *args[] = {"true", NULL};
	pid_t child;
	int status;
	if (posix_spawn(&child, "/bin/true", NULL, NULL, args, args + 1))
		wrong("posix_spawn: errno %d", errno);
	if (waitpid(child, &status, 0) != child || status != 0)
		wrong("spawn: status %#x, errno %d", status, errno);
}

static volatile uint64_t alarms;

static void on_alarm(int sig, siginfo_t *info, void *context) { alarms++; }

// A blocking read without SA_RESTART that a timer's signal must end with EINTR:
// the one case in which the program has to see it.
static void do_alarm(long i, uint64_t round)
{
	char b;
	// Again and again: a stop of the thread in front of the read may be longer than one.
	struct itimerval t = {{0, TIMEOUT * 1000}, {0, TIMEOUT * 1000}}, none = {{0, 0}, {0, 0}};
	uint64_t before = alarms;
	setitimer(ITIMER_REAL, &t, NULL);
	ssize_t r = read(pipes[i][0], &b, 1);
	int err = errno;
	setitimer(ITIMER_REAL, &none, NULL);
	errno = err;
	if (r != -1 || errno != EINTR || alarms == before)
		wrong("alarm: read %zd, errno %d, %lu signals", r, errno, alarms - before);
}

// Known values in every vector and general register, checked after a spin.
static void do_compute(long i, uint64_t round)
{
	uint64_t in[16], out[16], r12, r13, r14, r15, rbx;
	for (int k = 0; k < 16; k++)
		in[k] = (round << 8) + k * 0x0101010101010101 + i;
	__asm__ volatile(
		"vmovdqu (%[in]), %%ymm0\n vmovdqu 32(%[in]), %%ymm1\n vmovdqu 64(%[in]), %%ymm7\n vmovdqu 96(%[in]), %%ymm15\n"
		"mov (%[in]), %%r12\n mov 8(%[in]), %%r13\n mov 16(%[in]), %%r14\n mov 24(%[in]), %%r15\n mov 32(%[in]), %%rbx\n"
		"mov $200000, %%ecx\n"
		"1: vpaddq %%ymm0, %%ymm1, %%ymm2\n vpsubq %%ymm0, %%ymm2, %%ymm1\n"
		"mov %%ecx, -64(%%rsp)\n cmp %%ecx, -64(%%rsp)\n jne 2f\n"
		"dec %%ecx\n jnz 1b\n"
		"vmovdqu %%ymm0, (%[out])\n vmovdqu %%ymm1, 32(%[out])\n vmovdqu %%ymm7, 64(%[out])\n vmovdqu %%ymm15, 96(%[out])\n"
		"jmp 3f\n 2: ud2\n 3:\n"
		"mov %%r12, %[r12]\n mov %%r13, %[r13]\n mov %%r14, %[r14]\n mov %%r15, %[r15]\n mov %%rbx, %[rbx]\n"
		: [r12] "=m"(r12), [r13] "=m"(r13), [r14] "=m"(r14), [r15] "=m"(r15), [rbx] "=m"(rbx)
		: [in] "r"(in), [out] "r"(out)
		: "rcx", "r12", "r13", "r14", "r15", "rbx", "xmm0", "xmm1", "xmm2", "xmm7", "xmm15", "memory", "cc");
	if (memcmp(in, out, sizeof in) || r12 != in[0] || r13 != in[1] || r14 != in[2] || r15 != in[3] || rbx != in[4])
		wrong("compute: a register changed");
}

// The same in the registers of AVX-512, where the processor has them.
__attribute__((target("avx512f"))) static void compute_zmm(long i, uint64_t round)
{
	uint64_t in[24], out[24], mask_in = (round & 0xff) | 1, mask_out = 0;
	for (int k = 0; k < 24; k++)
		in[k] = (round << 8) + k * 0x0101010101010101 + i;
	__asm__ volatile(
		"vmovdqu64 (%[in]), %%zmm0\n vmovdqu64 64(%[in]), %%zmm16\n vmovdqu64 128(%[in]), %%zmm31\n"
		"kmovw %k[mask_in], %%k3\n mov $200000, %%ecx\n"
		"1: vpaddq %%zmm0, %%zmm31, %%zmm17\n vpsubq %%zmm0, %%zmm17, %%zmm31\n dec %%ecx\n jnz 1b\n"
		"kmovw %%k3, %k[mask_out]\n"
		"vmovdqu64 %%zmm0, (%[out])\n vmovdqu64 %%zmm16, 64(%[out])\n vmovdqu64 %%zmm31, 128(%[out])\n"
		: [mask_out] "=&r"(mask_out)
		: [in] "r"(in), [out] "r"(out), [mask_in] "r"(mask_in)
		: "rcx", "xmm0", "xmm16", "xmm17", "xmm31", "k3", "memory", "cc");
	if (memcmp(in, out, sizeof in) || mask_in != (mask_out & 0xffff))
		wrong("compute: a register of AVX-512 changed");
}

static void do_compute_zmm(long i, uint64_t round)
{
	if (__builtin_cpu_supports("avx512f"))
		compute_zmm(i, round);
	else
		do_compute(i, round);
}

// A thread that calls answer() as fast as it can; both versions are right.
static void do_call(long i, uint64_t round)
{
	for (int k = 0; k < 100000; k++) {
		int r = answer(k);
		if (r != k + 1 && r != k + 2)
			wrong("answer(%d) is %d", k, r);
	}
}

static void do_clone(long i, uint64_t round);
static void do_fork(long i, uint64_t round);

static struct state {
	const char *name;
	void (*run)(long i, uint64_t round);
	void *(*feed)(void *);
} states[] = {
	{"read", do_read, feed_pipe}, {"poll", do_poll}, {"ppoll", do_ppoll}, {"epoll", do_epoll}, {"epoll_pwait", do_epoll_pwait},
	{"select", do_select}, {"futex", do_futex}, {"cond", do_cond}, {"nanosleep", do_nanosleep}, {"nanosleep_abs", do_nanosleep_abs},
	{"recv", do_recv}, {"accept", do_accept}, {"semop", do_semop, feed_sem}, {"semtimedop", do_semtimedop},
	{"sigtimedwait", do_sigtimedwait}, {"waitpid", do_waitpid}, {"io_getevents", do_io_getevents}, {"io_uring", do_io_uring},
	{"signals", do_signals, feed_pipe}, {"vfork", do_vfork}, {"spawn", do_spawn}, {"alarm", do_alarm}, {"compute", do_compute},
	{"compute-zmm", do_compute_zmm}, {"call", do_call}, {"clone", do_clone}, {"fork", do_fork},
};

static void *nothing(void *arg) { return arg; }

// Threads that come and go.
static void do_clone(long i, uint64_t round)
{
	pthread_t t;
	void *ret;
	if (pthread_create(&t, NULL, nothing, (void *)round))
		wrong("pthread_create: errno %d", errno);
	if (pthread_join(t, &ret) || ret != (void *)round)
		wrong("pthread_join: %p", ret);
}

static void do_fork(long i, uint64_t round)
{
	pid_t child = fork();
	if (child == 0)
		_exit(answer(1) < 2);
	int status;
	if (waitpid(child, &status, 0) != child || status != 0)
		wrong("fork: status %#x, errno %d", status, errno);
	struct timespec t = {0, 2000000};
	nanosleep(&t, NULL);
}

static struct state *state;

static int threads = 1;
static uint64_t seen[64]; // of rounds, when the progress was last told

static void look(void)
{
	for (int i = 0; i < threads; i++)
		seen[i] = rounds[i];
}

// progressed counts the times that no thread was found where it had been.
static uint64_t progressed(void)
{
	static uint64_t progress;
	for (int i = 0; i < threads; i++)
		if (rounds[i] == seen[i])
			return progress;
	look();
	return ++progress;
}

static void *worker(void *arg)
{
	for (uint64_t round = 0;; round++) {
		state->run((long)arg, round);
		atomic_fetch_add(&rounds[(long)arg], 1);
	}
	return NULL;
}

// serve tells the progress, until its input ends.
static void *serve(void *arg)
{
	char line[64];
	while (fgets(line, sizeof line, stdin)) {
		if (line[0] == 'm')
			look();
		printf("%lu %lu\n", (unsigned long)progressed(), (unsigned long)interrupted);
		fflush(stdout);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	threads = argc > 2 ? atoi(argv[2]) : 1;
	if (argc > 3 && !strcmp(argv[3], "eintr-allowed"))
		eintr_is_wrong = 0;
	for (unsigned k = 0; k < sizeof states / sizeof *states; k++)
		if (argc > 1 && !strcmp(argv[1], states[k].name))
			state = &states[k];
	if (!state || threads < 1 || threads > 64)
		return 2;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	struct sigaction sa = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO};
	sigaction(SIGALRM, &sa, NULL);
	pthread_t t;
	if (!strcmp(state->name, "cond"))
		pthread_create(&t, NULL, ticker, NULL);
	if (unshare(CLONE_NEWIPC)) // semaphores that end with the process; for root
		errno = 0;
	for (long i = 0; i < threads; i++) {
		if (pipe(pipes[i]))
			return 2;
		if (state->feed == feed_sem && (sems[i] = semget(IPC_PRIVATE, 1, 0600)) < 0)
			return 2;
		if (state->feed)
			pthread_create(&t, NULL, state->feed, (void *)i);
		pthread_create(&t, NULL, worker, (void *)i);
	}
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	printf("ready %p\n", (void *)answer);
	fflush(stdout);
	if (argc > 4 && !strcmp(argv[4], "mainless")) {
		pthread_create(&t, NULL, serve, NULL);
		pthread_exit(NULL);
	}
	serve(NULL);
}
