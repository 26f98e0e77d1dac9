/* A process that runs guards for the tests: it does what the test writes to its
 * standard input and answers on its standard output, so that a guard that
 * crashes takes this process along and not the test.
 *
 * A request is u32 command, u32 length, u64 address, then payload; every command
 * is answered by u32 length and payload.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

extern unsigned char state[128 + 16 * 32];
extern uint64_t entry, outcome, have_avx;
extern void *const peers[];
extern const uint32_t peers_count;
extern void oracle_call(void), oracle_passed(void), oracle_returned(void);

static void die(const char *what) { perror(what); _exit(3); }

static void get(void *p, size_t n) {
	for (char *c = p; n; ) {
		ssize_t k = read(0, c, n);
		if (k == 0) _exit(0);
		if (k < 0 && errno == EINTR) continue;
		if (k < 0) die("read");
		c += k; n -= k;
	}
}

static void put(const void *p, size_t n) {
	for (const char *c = p; n; ) {
		ssize_t k = write(1, c, n);
		if (k < 0 && errno == EINTR) continue;
		if (k <= 0) die("write");
		c += k; n -= k;
	}
}

static void answer(const void *p, uint32_t n) { put(&n, 4); put(p, n); }

enum { CMD_INFO = 1, CMD_MAP, CMD_WRITE, CMD_READ, CMD_CALL, CMD_ERRNO, CMD_HANDLER, CMD_BENCH, CMD_RAISE, CMD_STORM, CMD_ALARMS, CMD_TRIAL, CMD_PEERS, CMD_REFUSE, CMD_STEPS };

static int avx(void) {
	unsigned a, b, c, d;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return 0;
	uint32_t lo, hi;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (lo & 6) == 6;
}

/* info: passed, returned, errno's offset from fs, &errno, tid, avx, the offset of struct
 * rseq from fs, whether it is registered */
static void info(void) {
	uint64_t fs, r[8];
	__asm__("mov %%fs:0, %0" : "=r"(fs));
	r[0] = (uint64_t)oracle_passed;
	r[1] = (uint64_t)oracle_returned;
	r[2] = (uint64_t)&errno - fs;
	r[3] = (uint64_t)&errno;
	r[4] = syscall(SYS_gettid);
	r[5] = have_avx;
	r[6] = __rseq_offset;
	r[7] = __rseq_size > 0;
	answer(r, sizeof r);
}

/* map: u64 length, u32 prot, u32 kind: 0 anonymous, 1 one page of a file mapped
 * over two, so that the second gives SIGBUS, 2 code, which trial writes through a
 * mapping of its own; prot 8 unmaps. */
static char *code_at, *code_alias;

static void map(uint64_t addr) {
	struct { uint64_t len; uint32_t prot, kind; } m;
	get(&m, sizeof m);
	int fd = -1, flags = MAP_PRIVATE | MAP_FIXED;
	if (m.prot == 8) {
		if (munmap((void *)addr, m.len)) die("munmap");
		answer("", 0);
		return;
	}
	if (m.kind == 1) {
		fd = memfd_create("short", 0);
		if (fd < 0 || ftruncate(fd, 4096)) die("memfd");
	} else if (m.kind == 2) {
		fd = memfd_create("code", 0);
		if (fd < 0 || ftruncate(fd, m.len)) die("memfd");
		flags = MAP_SHARED | MAP_FIXED;
		code_at = (char *)addr;
		code_alias = mmap(NULL, m.len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (code_alias == MAP_FAILED) die("mmap");
	} else flags |= MAP_ANONYMOUS;
	if (mmap((void *)addr, m.len, m.prot, flags, fd, 0) != (void *)addr) die("mmap");
	if (fd >= 0) close(fd);
	answer("", 0);
}

/* write: code pages are made writable for the time of it. */
static void store(uint64_t addr, uint32_t len) {
	uint64_t from = addr & ~4095ull, n = ((addr + len + 4095) & ~4095ull) - from;
	if (mprotect((void *)from, n, PROT_READ | PROT_WRITE)) die("mprotect");
	get((void *)addr, len);
	uint32_t prot;
	get(&prot, 4);
	if (mprotect((void *)from, n, prot)) die("mprotect");
	answer("", 0);
}

static void call(uint64_t addr) {
	get(state, sizeof state);
	entry = addr;
	outcome = 0;
	oracle_call();
	put(&(uint32_t){sizeof state + 8}, 4);
	put(&outcome, 8);
	put(state, sizeof state);
}

/* trial: a guard is placed, called once and looked at, all in one request: length
 * is that of the code, address where it goes. Everything that a call changes is as
 * for the first call: the control block, the counters, the events, the state, and
 * the stack, whose upper part is filled with a pattern. */
static struct {
	uint64_t control, counters, events, state, table, table_count, top, ret, returned, data, clock, now;
	uint32_t mode, counters_len, events_len, data_len, table_len, state_len, control_len, top_len;
} tr;
static struct {
	uint64_t outcome, data, stack_kept, err;
} seen;

static uint64_t digest(const uint64_t *p, uint32_t n) {
	uint64_t h = 14695981039346656037ull;
	for (uint32_t i = 0; i < n / 8; i++) h = (h ^ p[i]) * 1099511628211ull;
	return h;
}

/* serialise makes the processor take new code as it is now: iretq to the next line. */
static void serialise(void) {
	uint64_t t;
	__asm__ volatile("mov %%ss, %k0; push %0; lea 8(%%rsp), %0; push %0; pushfq; mov %%cs, %k0; push %0;"
		"lea 1f(%%rip), %0; push %0; iretq; 1:" : "=&r"(t) : : "memory", "cc");
}

static void trial(uint64_t addr, uint32_t len) {
	static unsigned char above[0x10000];
	get(&tr, sizeof tr);
	if (!code_alias || tr.top_len > sizeof above) die("trial");
	get(state, sizeof state);
	get((void *)tr.state, tr.state_len);
	get(code_alias + (addr - (uint64_t)code_at), len);
	get(code_alias + (tr.table - (uint64_t)code_at), tr.table_len);
	memset((void *)tr.control, 0, tr.control_len);
	*(uint32_t *)tr.control = tr.mode;
	*(uint64_t *)tr.clock = tr.now;
	memset((void *)tr.counters, 0, tr.counters_len);
	memset((void *)tr.events, 0, tr.events_len);
	*(uint64_t *)(tr.table_count) = tr.table_len / 16;
	for (uint32_t i = 0; i < tr.top_len; i++) above[i] = i * 7;
	memcpy(above + (tr.ret - tr.top), &tr.returned, 8);
	memcpy((void *)tr.top, above, tr.top_len);
	uint64_t kept = ((uint64_t *)state)[4] - tr.top;
	serialise();
	entry = addr;
	outcome = 0;
	oracle_call();
	seen.err = errno;
	seen.outcome = outcome;
	seen.data = digest((void *)tr.data, tr.data_len);
	seen.stack_kept = !memcmp((char *)tr.top + kept, above + kept, tr.top_len - kept);
	put(&(uint32_t){sizeof seen + sizeof state + tr.state_len + tr.counters_len}, 4);
	put(&seen, sizeof seen);
	put(state, sizeof state);
	put((void *)tr.state, tr.state_len);
	put((void *)tr.counters, tr.counters_len);
}

/* The dispositions a program may have before PIE's handler is installed. */
static volatile sig_atomic_t caught;
static volatile uint64_t caught_addr;
static uint64_t skip_to;

static void old_plain(int sig) { (void)sig; caught++; }
static void old_info(int sig, siginfo_t *si, void *ctx) {
	(void)sig;
	ucontext_t *uc = ctx;
	caught++;
	caught_addr = (uint64_t)si->si_addr;
	if (si->si_code > 0) uc->uc_mcontext.gregs[REG_RIP] = skip_to;
}

struct kaction { uint64_t handler, flags, restorer, mask; };

/* handler: u64 fault block, u32 old (0 default, 1 ignore, 2 plain, 3 siginfo),
 * u32 extra flags of the old action. Installs addr for SIGSEGV and SIGBUS. */
static void handler(uint64_t addr) {
	struct { uint64_t block; uint32_t old, flags; } h;
	get(&h, sizeof h);
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof alt };
	if (sigaltstack(&ss, NULL)) die("sigaltstack");
	for (int i = 0; i < 2; i++) {
		int sig = i ? SIGBUS : SIGSEGV;
		struct sigaction sa;
		memset(&sa, 0, sizeof sa);
		sa.sa_flags = h.flags | (h.old == 3 ? SA_SIGINFO : 0);
		if (h.old < 2) sa.sa_handler = h.old ? SIG_IGN : SIG_DFL;
		else if (h.old == 2) sa.sa_handler = old_plain;
		else sa.sa_sigaction = old_info;
		if (sigaction(sig, &sa, NULL)) die("sigaction");
		struct kaction *saved = (struct kaction *)(h.block + 16 + 32 * i), mine;
		if (syscall(SYS_rt_sigaction, sig, NULL, saved, 8)) die("rt_sigaction");
		mine.handler = addr;
		mine.flags = SA_ONSTACK | SA_SIGINFO | SA_NODEFER | 0x04000000;
		mine.restorer = addr; /* the blob starts with one */
		mine.mask = saved->mask;
		mine.handler = addr + 16;
		if (syscall(SYS_rt_sigaction, sig, &mine, NULL, 8)) die("rt_sigaction");
	}
	answer("", 0);
}

/* raise: u32 0: kill(self, SIGSEGV); 1: read address addr. Answers how many
 * signals the program's own handler saw, and the address. */
static void raise_one(uint64_t addr) {
	uint32_t kind;
	get(&kind, 4);
	caught = 0;
	caught_addr = 0;
	if (kind == 0) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSEGV);
	else __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; mov (%1), %%al; 1:"
		: "=m"(skip_to) : "r"(addr) : "rax", "memory");
	uint64_t r[2] = { caught, caught_addr };
	answer(r, sizeof r);
}

/* bench: u64 batches, u32 calls in a batch, u32 threads, u64 bare, 4 × u64
 * arguments. Thread 0 times batches of the function at addr and at bare in turn,
 * while the other threads call addr without pause; the answer is minimum and
 * median of addr, then of bare, in picoseconds a call. */
typedef uint64_t (*function)(uint64_t, uint64_t, uint64_t, uint64_t);
struct bench { uint64_t batches; uint32_t calls, threads; uint64_t bare, a[4]; };
static struct bench query;
static function guarded;
static volatile int stop;

static uint64_t nanos(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void batch(function fn) {
	for (uint32_t i = 0; i < query.calls; i++) fn(query.a[0], query.a[1], query.a[2], query.a[3]);
}

static void *contender(void *p) {
	while (!stop) batch(guarded);
	return p;
}

static int ascending(const void *x, const void *y) {
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
	return a < b ? -1 : a > b;
}

static void bench(uint64_t addr) {
	get(&query, sizeof query);
	guarded = (function)addr;
	if (query.threads < 1 || query.threads > 64 || query.batches > 100000) die("bench");
	pthread_t t[64];
	stop = 0;
	for (unsigned i = 1; i < query.threads; i++)
		if (pthread_create(&t[i], NULL, contender, NULL)) die("pthread_create");
	uint64_t *ps[2], r[4];
	for (int k = 0; k < 2; k++) ps[k] = calloc(query.batches, sizeof *ps[k]);
	for (uint64_t b = 0; b < query.batches; b++) {
		for (int k = 0; k < 2; k++) {
			uint64_t from = nanos();
			batch(k ? (function)query.bare : guarded);
			ps[k][b] = (nanos() - from) * 1000 / query.calls;
		}
	}
	stop = 1;
	for (unsigned i = 1; i < query.threads; i++) pthread_join(t[i], NULL);
	for (int k = 0; k < 2; k++) {
		qsort(ps[k], query.batches, sizeof *ps[k], ascending);
		r[2 * k] = ps[k][0];
		r[2 * k + 1] = ps[k][query.batches / 2];
		free(ps[k]);
	}
	answer(r, sizeof r);
}

/* storm: u32 threads, u32 calls, u64 argument, u32 how: each thread calls addr so often;
 * the answer is when all have. how & 1: every other thread has no struct rseq registered;
 * how & 2: the threads are moved from CPU to CPU meanwhile. */
static struct __attribute__((packed)) { uint32_t threads, calls; uint64_t arg; uint32_t how; } storm_query;
static uint32_t storm_index;

static void no_rseq(void) {
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	if (__rseq_size && syscall(SYS_rseq, area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG)) die("rseq");
}

static void *storm_thread(void *fn) {
	if (storm_query.how & 1 && __atomic_fetch_add(&storm_index, 1, __ATOMIC_RELAXED) % 2) no_rseq();
	for (uint32_t i = 0; i < storm_query.calls; i++) ((function)fn)(storm_query.arg, 0, 0, 0);
	return NULL;
}

static void *mover(void *threads) {
	cpu_set_t all, one;
	if (sched_getaffinity(0, sizeof all, &all)) die("sched_getaffinity");
	for (unsigned n = 0; !stop; n++) {
		for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
			if (!CPU_ISSET(cpu, &all)) continue;
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			pthread_setaffinity_np(((pthread_t *)threads)[n % storm_query.threads], sizeof one, &one);
		}
	}
	return NULL;
}

static void storm(uint64_t addr) {
	get(&storm_query, sizeof storm_query);
	if (storm_query.threads > 64) die("threads");
	pthread_t t[64], m;
	stop = 0;
	for (unsigned i = 0; i < storm_query.threads; i++)
		if (pthread_create(&t[i], NULL, storm_thread, (void *)addr)) die("pthread_create");
	if (storm_query.how & 2 && pthread_create(&m, NULL, mover, t)) die("pthread_create");
	for (unsigned i = 0; i < storm_query.threads; i++) {
		pthread_join(t[i], NULL);
		if (i == 0 && storm_query.how & 2) { /* before one is gone that would be moved */
			stop = 1;
			pthread_join(m, NULL);
		}
	}
	answer("", 0);
}

/* steps: u64 argument: addr is called once, single-stepped: a signal at each of its
 * instructions. The answer is their number. */
static volatile uint64_t steps;

static void on_step(int sig) { (void)sig; steps++; }

static void step_through(uint64_t addr) {
	uint64_t arg;
	get(&arg, sizeof arg);
	struct sigaction sa = { .sa_handler = on_step };
	if (sigaction(SIGTRAP, &sa, NULL)) die("sigaction");
	function fn = (function)addr;
	steps = 0;
	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq" : : : "memory", "cc");
	fn(arg, 0, 0, 0);
	__asm__ volatile("pushfq; andl $~0x100, (%%rsp); popfq" : : : "memory", "cc");
	uint64_t n = steps;
	answer(&n, sizeof n);
}

/* alarms: u64 argument, u32 microseconds: from now on a signal handler calls addr
 * so often, on the stack of whatever it interrupts; 0 ends that. The answer is
 * how often it has. */
static function alarmed;
static uint64_t alarm_arg;
static volatile uint64_t alarms;

static void on_alarm(int sig) {
	(void)sig;
	alarms++;
	alarmed(alarm_arg, 0, 0, 0);
}

static void set_alarms(uint64_t addr) {
	struct { uint64_t arg; uint32_t us; } q;
	get(&q.arg, 8);
	get(&q.us, 4);
	alarmed = (function)addr;
	alarm_arg = q.arg;
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	if (sigaction(SIGALRM, &sa, NULL)) die("sigaction");
	struct itimerval it = { { 0, q.us }, { 0, q.us } };
	if (setitimer(ITIMER_REAL, &it, NULL)) die("setitimer");
	uint64_t n = alarms;
	answer(&n, 8);
}

/* refuse: from now on system call addr fails with EPERM. */
static void refuse(uint64_t addr) {
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, addr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { sizeof f / sizeof *f, f };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p)) die("seccomp");
	answer("", 0);
}

int main(void) {
	have_avx = avx();
	for (;;) {
		struct { uint32_t cmd, len; uint64_t addr; } q;
		get(&q, sizeof q);
		switch (q.cmd) {
		case CMD_INFO: info(); break;
		case CMD_MAP: map(q.addr); break;
		case CMD_WRITE: store(q.addr, q.len); break;
		case CMD_READ: answer((void *)q.addr, q.len); break;
		case CMD_CALL: call(q.addr); break;
		case CMD_ERRNO: { int e = errno; answer(&e, 4); break; }
		case CMD_HANDLER: handler(q.addr); break;
		case CMD_BENCH: bench(q.addr); break;
		case CMD_STORM: storm(q.addr); break;
		case CMD_TRIAL: trial(q.addr, q.len); break;
		case CMD_ALARMS: set_alarms(q.addr); break;
		case CMD_RAISE: raise_one(q.addr); break;
		case CMD_STEPS: step_through(q.addr); break;
		case CMD_REFUSE: refuse(q.addr); break;
		case CMD_PEERS: answer(peers, 8 * peers_count); break;
		default: die("unknown command");
		}
	}
}
