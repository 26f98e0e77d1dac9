// A program that enters a sandbox: quiet_test.go. It reads a command and a number a line,
// and answers with a number a line. "strict 0" enters SECCOMP_MODE_STRICT, "filter 0" a
// filter that kills for all but read, write, exit and rt_sigreturn, "forking 0" one that
// allows fork as well. "fork 0" forks a child, which serves from then on, and answers with
// its pid. FILL_TEXT and FILL_DATA move the ends of its segments.
#define _GNU_SOURCE
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TEXT(n) #n
#define FILL(n) __asm__(".text\n.skip " TEXT(n) ", 0x90\n")
FILL(FILL_TEXT);
static volatile char fill[FILL_DATA + 1];
static volatile long seen[64];

__attribute__((noinline, noclone, noipa)) int check(int n)
{
	seen[n & 63] += n;
	return n;
}

__attribute__((noinline, noclone, noipa)) long other(long a, long b)
{
	seen[a & 63] += b;
	return a + b;
}

// What <linux/filter.h> and <linux/seccomp.h> call so, which musl's compiler does not find.
enum { LOAD = 0x20, IF_EQUAL = 0x15, RETURN = 0x06, KILL_PROCESS = 0x80000000, PASS = 0x7fff0000, STRICT = 1, FILTER = 2 };

static long filter(int forking)
{
	struct { unsigned short code; unsigned char yes, no; unsigned k; } code[] = {
		{LOAD, 0, 0, 0}, // seccomp_data.nr
		{IF_EQUAL, 7, 0, SYS_read}, {IF_EQUAL, 6, 0, SYS_write}, {IF_EQUAL, 5, 0, SYS_exit}, {IF_EQUAL, 4, 0, SYS_rt_sigreturn},
		{IF_EQUAL, forking ? 3 : 2, 0, SYS_clone}, {IF_EQUAL, forking ? 2 : 1, 0, SYS_wait4}, {IF_EQUAL, forking ? 1 : 0, 0, SYS_fork},
		{RETURN, 0, 0, KILL_PROCESS},
		{RETURN, 0, 0, PASS},
	};
	struct { unsigned short len; void *filter; } program = {sizeof code / sizeof *code, code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, FILTER, &program);
}

static long serve(const char *command, long n)
{
	if (strcmp(command, "check") == 0)
		return check((int)n);
	if (strcmp(command, "other") == 0)
		return other(n, 1);
	if (strcmp(command, "strict") == 0)
		return prctl(PR_SET_SECCOMP, STRICT);
	if (strcmp(command, "filter") == 0)
		return filter(0);
	if (strcmp(command, "forking") == 0)
		return filter(1);
	if (strcmp(command, "forbidden") == 0)
		return syscall(SYS_getppid);
	return n;
}

static void answer(long n)
{
	char text[24], *at = text + sizeof text;
	unsigned long u = n < 0 ? -n : n;
	*--at = '\n';
	do
		*--at = '0' + u % 10;
	while (u /= 10);
	if (n < 0)
		*--at = '-';
	write(1, at, text + sizeof text - at);
}

int main(void)
{
	char command[32], c;
	unsigned length = 0;
	long n = 0;
	fill[0] = 1;
	while (read(0, &c, 1) == 1) {
		if (c >= '0' && c <= '9')
			n = 10 * n + c - '0';
		else if (c >= 'a' && c <= 'z' && length < sizeof command - 1)
			command[length++] = c;
		if (c != '\n')
			continue;
		command[length] = 0;
		if (strcmp(command, "fork") == 0) {
			long pid = syscall(SYS_fork);
			if (pid > 0) {
				answer(pid);
				syscall(SYS_wait4, pid, 0, 0, 0);
				syscall(SYS_exit, 0);
			}
		} else {
			answer(serve(command, n));
		}
		length = 0, n = 0;
	}
	syscall(SYS_exit, 0);
}
