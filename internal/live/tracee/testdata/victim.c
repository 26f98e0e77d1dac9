// A program that sits in one blocking call, over and over, in each of N
// threads, and checks every result itself. It prints one line a report and
// answers lines on stdin; a wrong result is printed at once and ends it.
//
//	victim STATE THREADS
//
// stdout: "ready FUNCTION-ADDRESS", then on each line of stdin "PROGRESS EINTRS".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
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

static _Atomic uint64_t progress, interrupted;
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

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// outcome checks a call that should have timed out: its result and how long it took.
static void timed(const char *name, int ret, int want, int err, int want_err, int64_t began, int64_t ms)
{
	int64_t took = now_ms() - began;
	if (ret == -1 && err == EINTR) {
		atomic_fetch_add(&interrupted, 1);
		if (eintr_is_wrong)
			wrong("%s: EINTR", name);
		return;
	}
	if (ret != want || (ret == -1 && err != want_err))
		wrong("%s: %d, errno %d", name, ret, err);
	if (took < ms - 5) // socket timeouts count in jiffies
		wrong("%s: %ld ms instead of %ld", name, (long)took, (long)ms);
}

enum { TIMEOUT = 20 };

// Pairs: one thread feeds, the other checks what arrives.
static int pipes[64][2];

static void *feeder(void *arg)
{
	int fd = pipes[(long)arg][1];
	for (uint64_t n = 0;; n++) {
		struct timespec t = {0, 2000000};
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL);
		if (write(fd, &n, sizeof n) != sizeof n)
			wrong("write: errno %d", errno);
	}
	return NULL;
}

static void do_read(long i, uint64_t round)
{
	uint64_t n;
	ssize_t r = read(pipes[i][0], &n, sizeof n);
	if (r != sizeof n)
		wrong("read: %zd, errno %d", r, errno);
	if (n != round)
		wrong("read: %lu instead of %lu", n, round);
}

static void do_poll(long i, uint64_t round)
{
	struct pollfd p = {pipes[i][0], POLLIN, 0};
	int64_t began = now_ms();
	int r = poll(&p, 1, TIMEOUT);
	timed("poll", r, 0, errno, 0, began, TIMEOUT);
}

static void do_epoll(long i, uint64_t round)
{
	static __thread int ep = -1;
	struct epoll_event ev = {EPOLLIN, {0}};
	if (ep < 0) {
		ep = epoll_create1(0);
		epoll_ctl(ep, EPOLL_CTL_ADD, pipes[i][0], &ev);
	}
	int64_t began = now_ms();
	int r = epoll_wait(ep, &ev, 1, TIMEOUT);
	timed("epoll_wait", r, 0, errno, 0, began, TIMEOUT);
}

static void do_epoll_pwait(long i, uint64_t round)
{
	static __thread int ep = -1;
	struct epoll_event ev;
	sigset_t set;
	sigemptyset(&set);
	if (ep < 0)
		ep = epoll_create1(0);
	int64_t began = now_ms();
	int r = epoll_pwait(ep, &ev, 1, TIMEOUT, &set);
	timed("epoll_pwait", r, 0, errno, 0, began, TIMEOUT);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	if (!sigismember(&set, SIGUSR2) || sigismember(&set, SIGUSR1))
		wrong("epoll_pwait: signal mask changed");
}

static void do_select(long i, uint64_t round)
{
	struct timeval t = {0, TIMEOUT * 1000};
	int64_t began = now_ms();
	int r = select(0, NULL, NULL, NULL, &t);
	timed("select", r, 0, errno, 0, began, TIMEOUT);
}

static void do_futex(long i, uint64_t round)
{
	static __thread int word;
	struct timespec t = {0, TIMEOUT * 1000000};
	int64_t began = now_ms();
	int r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);
	timed("futex", r, -1, errno, ETIMEDOUT, began, TIMEOUT);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static uint64_t ticks;

static void *ticker(void *arg)
{
	for (;;) {
		struct timespec t = {0, 2000000};
		nanosleep(&t, NULL);
		pthread_mutex_lock(&lock);
		ticks++;
		pthread_cond_broadcast(&turn);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void do_cond(long i, uint64_t round)
{
	pthread_mutex_lock(&lock);
	uint64_t seen = ticks;
	while (ticks == seen)
		pthread_cond_wait(&turn, &lock);
	pthread_mutex_unlock(&lock);
}

static void do_nanosleep(long i, uint64_t round)
{
	struct timespec t = {0, TIMEOUT * 1000000}, left = {0, 0};
	int64_t began = now_ms();
	int r = syscall(SYS_nanosleep, &t, &left);
	timed("nanosleep", r, 0, errno, 0, began, TIMEOUT);
}

static void do_nanosleep_abs(long i, uint64_t round)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	int64_t began = now_ms();
	t.tv_nsec += TIMEOUT * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	timed("clock_nanosleep", errno ? -1 : 0, 0, errno, 0, began, TIMEOUT);
}

static int udp(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval t = {0, TIMEOUT * 1000};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (bind(fd, (void *)&a, sizeof a) || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t))
		wrong("udp: errno %d", errno);
	return fd;
}

static void do_recv(long i, uint64_t round)
{
	static __thread int fd = -1;
	char b[8];
	if (fd < 0)
		fd = udp();
	int64_t began = now_ms();
	int r = recv(fd, b, sizeof b, 0);
	timed("recv", r, -1, errno, EAGAIN, began, TIMEOUT);
}

static void do_accept(long i, uint64_t round)
{
	static __thread int fd = -1;
	if (fd < 0) {
		struct timeval t = {0, TIMEOUT * 1000};
		fd = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
		if (listen(fd, 1))
			wrong("listen: errno %d", errno);
	}
	int64_t began = now_ms();
	int r = accept(fd, NULL, NULL);
	timed("accept", r, -1, errno, EAGAIN, began, TIMEOUT);
}

static void do_semop(long i, uint64_t round)
{
	int id = semget(IPC_PRIVATE, 1, 0600);
	struct sembuf op = {0, -1, 0};
	struct timespec t = {0, TIMEOUT * 1000000};
	if (id < 0)
		wrong("semget: errno %d", errno);
	int64_t began = now_ms();
	int r = semtimedop(id, &op, 1, &t);
	timed("semtimedop", r, -1, errno, EAGAIN, began, TIMEOUT);
	semctl(id, 0, IPC_RMID);
}

static void do_sigtimedwait(long i, uint64_t round)
{
	sigset_t set;
	struct timespec t = {0, TIMEOUT * 1000000};
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	int64_t began = now_ms();
	int r = sigtimedwait(&set, NULL, &t);
	timed("sigtimedwait", r, -1, errno, EAGAIN, began, TIMEOUT);
}

static void do_waitpid(long i, uint64_t round)
{
	pid_t child = fork();
	if (child == 0) {
		struct timespec t = {0, TIMEOUT * 1000000};
		nanosleep(&t, NULL);
		_exit(round & 127);
	}
	int status;
	pid_t r = waitpid(child, &status, 0);
	if (r != child || !WIFEXITED(status) || WEXITSTATUS(status) != (int)(round & 127))
		wrong("waitpid: %d, status %#x, errno %d", r, status, errno);
}

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
	struct itimerval t = {{0, 0}, {0, TIMEOUT * 1000}};
	uint64_t before = alarms;
	setitimer(ITIMER_REAL, &t, NULL);
	ssize_t r = read(pipes[i][0], &b, 1);
	if (r != -1 || errno != EINTR || alarms != before + 1)
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
	int feeds;
} states[] = {
	{"read", do_read, 1}, {"poll", do_poll, 0}, {"epoll", do_epoll, 0}, {"epoll_pwait", do_epoll_pwait, 0}, {"select", do_select, 0},
	{"futex", do_futex, 0}, {"cond", do_cond, 0}, {"nanosleep", do_nanosleep, 0}, {"nanosleep_abs", do_nanosleep_abs, 0},
	{"recv", do_recv, 0}, {"accept", do_accept, 0}, {"semop", do_semop, 0}, {"sigtimedwait", do_sigtimedwait, 0},
	{"waitpid", do_waitpid, 0}, {"vfork", do_vfork, 0}, {"spawn", do_spawn, 0}, {"alarm", do_alarm, 0}, {"compute", do_compute, 0}, {"call", do_call, 0},
	{"clone", do_clone, 0}, {"fork", do_fork, 0},
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

static void *worker(void *arg)
{
	for (uint64_t round = 0;; round++) {
		state->run((long)arg, round);
		atomic_fetch_add(&progress, 1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[2]) : 1;
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
	for (long i = 0; i < threads; i++) {
		if (pipe(pipes[i]))
			return 2;
		if (state->feeds)
			pthread_create(&t, NULL, feeder, (void *)i);
		pthread_create(&t, NULL, worker, (void *)i);
	}
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	printf("ready %p\n", (void *)answer);
	fflush(stdout);
	char line[64];
	while (fgets(line, sizeof line, stdin)) {
		printf("%lu %lu\n", (unsigned long)progress, (unsigned long)interrupted);
		fflush(stdout);
	}
	return 0;
}
