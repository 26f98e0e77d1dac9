// What a thread of the victim blocks in. Every call is checked: its result, and how
// long it took. Included by victim.c, which has the threads.
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <sys/mman.h>

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

static void feed_wait(void)
{
	struct timespec t = {0, 2000000};
	syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL);
}

static void *feed_pipe(void *arg)
{
	int fd = pipes[(long)arg][1];
	for (uint64_t n = 0;; n++) {
		feed_wait();
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

static void do_ppoll(long i, uint64_t round)
{
	struct timespec t = {0, TIMEOUT * 1000000};
	sigset_t set;
	sigfillset(&set);
	int64_t began = now_ms();
	int r = syscall(SYS_ppoll, NULL, 0, &t, &set, 8); // tells what is left of the time in t
	timed("ppoll", r, 0, errno, 0, began, TIMEOUT);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	if (!sigismember(&set, SIGUSR2) || sigismember(&set, SIGUSR1))
		wrong("ppoll: signal mask changed");
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

static void do_semtimedop(long i, uint64_t round)
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

static int sems[64];

static void *feed_sem(void *arg)
{
	struct sembuf op = {0, 1, 0};
	for (;;) {
		feed_wait();
		if (semop(sems[(long)arg], &op, 1))
			wrong("semop: errno %d", errno);
	}
	return NULL;
}

static void do_semop(long i, uint64_t round)
{
	struct sembuf op = {0, -1, 0};
	int r = semop(sems[i], &op, 1);
	if (r == -1 && errno == EINTR)
		atomic_fetch_add(&interrupted, 1);
	if (r != 0 && (errno != EINTR || eintr_is_wrong))
		wrong("semop: %d, errno %d", r, errno);
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


static void do_io_getevents(long i, uint64_t round)
{
	static __thread aio_context_t context;
	struct io_event ev;
	struct timespec t = {0, TIMEOUT * 1000000};
	if (!context && syscall(SYS_io_setup, 1, &context))
		wrong("io_setup: errno %d", errno);
	int64_t began = now_ms();
	int r = syscall(SYS_io_getevents, context, 1L, 1L, &ev, &t);
	timed("io_getevents", r, 0, errno, 0, began, TIMEOUT);
}

// A ring of io_uring(7) that a thread waits in for its timeouts.
struct ring {
	int fd;
	char *queues; // both, IORING_FEAT_SINGLE_MMAP
	struct io_uring_sqe *sqes;
	struct io_uring_params p;
};

static void open_ring(struct ring *r)
{
	r->fd = syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0 || !(r->p.features & IORING_FEAT_SINGLE_MMAP))
		wrong("io_uring_setup: errno %d", errno);
	size_t size = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->queues = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
	r->sqes = mmap(NULL, r->p.sq_entries * sizeof *r->sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
	if (r->queues == MAP_FAILED || r->sqes == MAP_FAILED)
		wrong("io_uring mmap: errno %d", errno);
}

static unsigned *ring_word(struct ring *r, unsigned off) { return (unsigned *)(r->queues + off); }

// Submitting and waiting are two calls: one call for both returns, when it is
// interrupted, how many it has submitted.
static void do_io_uring(long i, uint64_t round)
{
	static __thread struct ring r;
	if (!r.queues)
		open_ring(&r);
	struct __kernel_timespec t = {0, TIMEOUT * 1000000};
	unsigned tail = *ring_word(&r, r.p.sq_off.tail), slot = tail & *ring_word(&r, r.p.sq_off.ring_mask);
	r.sqes[slot] = (struct io_uring_sqe){.opcode = IORING_OP_TIMEOUT, .addr = (uintptr_t)&t, .len = 1, .user_data = round};
	ring_word(&r, r.p.sq_off.array)[slot] = slot;
	__atomic_store_n(ring_word(&r, r.p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	int64_t began = now_ms();
	if (syscall(SYS_io_uring_enter, r.fd, 1, 0, 0, NULL, 0) != 1)
		wrong("io_uring_enter, submitting: errno %d", errno);
	int got;
	while ((got = syscall(SYS_io_uring_enter, r.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0)) == -1 && errno == EINTR)
		if (atomic_fetch_add(&interrupted, 1), eintr_is_wrong)
			wrong("io_uring_enter: EINTR");
	unsigned head = *ring_word(&r, r.p.cq_off.head);
	if (got != 0 || __atomic_load_n(ring_word(&r, r.p.cq_off.tail), __ATOMIC_ACQUIRE) != head + 1)
		wrong("io_uring_enter: %d, errno %d", got, errno);
	struct io_uring_cqe *c = (struct io_uring_cqe *)(r.queues + r.p.cq_off.cqes) + (head & *ring_word(&r, r.p.cq_off.ring_mask));
	if (c->user_data != round || c->res != -ETIME || now_ms() - began < TIMEOUT - 1)
		wrong("io_uring: result %d of %lu after %ld ms", c->res, (unsigned long)c->user_data, (long)(now_ms() - began));
	__atomic_store_n(ring_word(&r, r.p.cq_off.head), head + 1, __ATOMIC_RELEASE);
}

// Signals that arrive meanwhile, from a timer of each thread: a read must not notice
// them (SA_RESTART), a sleep must, and only them.
static __thread volatile uint64_t ticked;

static void on_tick(int sig) { ticked++; }

static void start_ticks(void)
{
	struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1};
	struct itimerspec every = {{0, 3300000}, {0, 3300000}};
	timer_t timer;
	ev._sigev_un._tid = gettid();
	sigaction(SIGRTMIN + 1, &sa, NULL);
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) || timer_settime(timer, 0, &every, NULL))
		wrong("timer: errno %d", errno);
}

static void do_signals(long i, uint64_t round)
{
	static __thread int started;
	if (!started++)
		start_ticks();
	do_read(i, round);
	struct timespec t = {0, TIMEOUT * 1000000};
	uint64_t before = ticked;
	int64_t began = now_ms();
	int r = syscall(SYS_nanosleep, &t, NULL);
	if (r == -1 && (errno != EINTR || ticked == before))
		wrong("nanosleep: errno %d, %lu signals", errno, (unsigned long)(ticked - before));
	if (r == 0 && now_ms() - began < TIMEOUT)
		wrong("nanosleep: %ld ms", (long)(now_ms() - began));
}
