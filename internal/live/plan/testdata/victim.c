// A program whose every function, libc's included, is detoured by the test
// that runs it: what it prints must not change. With arguments it first
// applies a file of records to itself (load.c).
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void load(const char *path, unsigned long arena, unsigned long size);

static unsigned long sum;
static void note(unsigned long v) { sum = (sum ^ v) * 0x100000001b3UL + (sum >> 29); }

// Shapes of entries.
#define SHAPE __attribute__((noinline, noclone))
SHAPE int leaf(int a) { return a + 1; }
SHAPE int compare(const char *a) { return a == 0 ? -1 : a[0]; }
SHAPE void nothing(void) { __asm__ volatile(""); }
SHAPE long loop(long n) { long s = 0; do { s += n; } while (--n > 0); return s; }
SHAPE int tail(int a) { return leaf(a * 3); }
SHAPE int many(int a, int b, int c, int d, int e, int f, int g, int h) { return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h; }
SHAPE double mixed(double x, int n, float y) { return x * n + y; }
SHAPE long double extended(long double x) { return x / 3; }
struct wide { long a[6]; };
SHAPE struct wide byvalue(struct wide w) { w.a[0] += w.a[5]; return w; }
SHAPE int indirect(int (*f)(int), int a) { return f(a) + f(a + 1); }
SHAPE unsigned long fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
SHAPE int variadic(int n, ...)
{
	va_list ap;
	int s = 0;
	va_start(ap, n);
	while (n-- > 0)
		s += va_arg(ap, int) + (int)va_arg(ap, double);
	va_end(ap);
	return s;
}
SHAPE int choose(int a)
{
	switch (a) {
	case 0: return 7;
	case 1: return leaf(2);
	case 2: return tail(3);
	case 3: return 11;
	case 4: return -1;
	case 5: return fib(6);
	default: return a;
	}
}
SHAPE int onstack(int n) { volatile char b[5000]; memset((char *)b, n, sizeof b); return b[n] + b[4999]; }
SHAPE int aligned(int n) { _Alignas(64) volatile char b[128]; b[n] = n; return ((uintptr_t)b & 63) + b[n]; }
SHAPE int vla(int n) { volatile int b[n]; for (int i = 0; i < n; i++) b[i] = i; return b[n - 1]; }
static __thread int perthread = 5;
SHAPE int thread_local_value(void) { return ++perthread; }
static int global = 3;
SHAPE int ripload(void) { return global; }
SHAPE int ripcompare(int a) { return global > 2 ? a : -a; }

// Register allocation across calls of functions the compiler knows.
static SHAPE int known(int a) { return a ^ 0x55; }
SHAPE long across(long a, long b, long c)
{
	long r = 0;
	for (int i = 0; i < 20; i++)
		r += known(a + i) * b - known(c - i) + (a ^ b ^ c ^ i);
	return r;
}

// Functions whose guard rejects: they return 4711 without running.
#define REJECT(name, ...) __attribute__((noinline, noclone)) long reject_##name(long a, long b)
REJECT(leaf) { return a + b; }
REJECT(pushes) { long r = 1; for (int i = 0; i < 3; i++) r += fib(a) * b + leaf(r) + loop(b); return r; }
REJECT(frame) { volatile char x[300]; memset((char *)x, a, sizeof x); return x[b]; }
REJECT(calls) { return tail(a) + tail(b); }
REJECT(tailcall) { return across(a, b, 3); }

SHAPE long rejected(long a)
{
	long x = a * 3, y = a * 5, z = a * 7, u = a * 11, v = a * 13, w = a * 17;
	long s = reject_leaf(a, x) + reject_pushes(y, z) + reject_frame(u, v) + reject_calls(w, x) + reject_tailcall(y, u);
	return s + x * 2 + y * 3 + z * 4 + u * 5 + v * 6 + w * 7;
}

static jmp_buf env;
SHAPE void jumper(int n) { if (n > 3) longjmp(env, n); jumper(n + 1); }
static volatile sig_atomic_t signals;
static void on_signal(int s) { signals += s; note(fib(5)); }
static int order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static void *worker(void *arg)
{
	unsigned long s = 0;
	for (int i = 0; i < 2000; i++) {
		char *p = malloc(i % 300 + 1);
		snprintf(p, i % 300 + 1, "%d-%ld", i, (long)arg);
		s = s * 31 + strlen(p) + thread_local_value();
		free(p);
	}
	return (void *)s;
}

static void libc_work(void)
{
	char b[400];
	int v[300];
	unsigned seed = 7;
	for (int i = 0; i < 300; i++)
		v[i] = (seed = seed * 1103515245 + 12345) >> 8;
	qsort(v, 300, sizeof *v, order);
	for (int i = 0; i < 300; i += 17)
		note(v[i]);
	printf("%d %s %.17g %Lg %#x %5.2f|%-8s|\n", 42, "text", 0.1, (long double)2.5, 255, 3.14159, "pad");
	for (int i = 0; i < 64; i++) {
		memset(b, i, sizeof b);
		memmove(b + i, b + 2 * i, 100);
		b[200 + i] = 0;
		note(strlen(b + 1) + (memchr(b, 0, sizeof b) != 0) + strcmp(b, b + i));
	}
	note(strtol("-1234567", 0, 10) + strtoul("ff", 0, 16));
	printf("%g %g %g\n", strtod("1.5e10", 0), pow(2, 0.5), sin(1));
	char *d = strdup("duplicate"), *t = strtok(d, "l");
	printf("%s %s\n", t, strstr("haystack", "st"));
	free(d);
	struct tm tm = {.tm_year = 100, .tm_mon = 1, .tm_mday = 29};
	strftime(b, sizeof b, "%Y-%m-%d %j", &tm);
	puts(b);
	errno = 0;
	printf("%d %s\n", open("/does/not/exist", O_RDONLY), strerror(errno));
	for (int i = 1; i < 4000; i += 37) {
		char *p = malloc(i), *q = calloc(1, i);
		p = realloc(p, i * 3);
		memset(p, i, i * 3);
		note(p[i] + q[i - 1]);
		free(p), free(q);
	}
}

static void shapes(void)
{
	struct wide w = {{1, 2, 3, 4, 5, 6}};
	note(leaf(1) + compare("x") + compare(0) + tail(5) + many(1, 2, 3, 4, 5, 6, 7, 8) + indirect(leaf, 4) + indirect(tail, 5));
	nothing();
	note(loop(10) + fib(15) + variadic(3, 1, 2.0, 3, 4.0, 5, 6.0) + byvalue(w).a[0]);
	for (int i = -1; i < 8; i++)
		note(choose(i));
	note(onstack(9) + aligned(8) + vla(33) + thread_local_value() + ripload() + ripcompare(4));
	note(across(3, 5, 7));
	printf("%g %Lg\n", mixed(1.5, 3, 2.25f), extended(10));
}

int main(int argc, char **argv)
{
	if (argc > 3)
		load(argv[1], strtoul(argv[2], 0, 0), strtoul(argv[3], 0, 0));
	for (int round = 0; round < 3; round++) {
		shapes();
		libc_work();
		int n = setjmp(env);
		if (n == 0)
			jumper(0);
		note(n);
		signal(SIGUSR1, on_signal);
		raise(SIGUSR1);
		note(signals);
		printf("rejected %ld\n", rejected(round + 1));
		pthread_t t[4];
		for (long i = 0; i < 4; i++)
			pthread_create(&t[i], 0, worker, (void *)i);
		for (int i = 0; i < 4; i++) {
			void *r;
			pthread_join(t[i], &r);
			note((unsigned long)r);
		}
		fflush(stdout);
		int status = 0;
		pid_t pid = fork();
		if (pid == 0)
			_exit(leaf(40));
		waitpid(pid, &status, 0);
		note(WEXITSTATUS(status));
	}
	printf("sum %lx\n", sum);
	return 0;
}
