/* crasher: calls until a letter on stdin says how to crash; some say what is to happen then. */
#include "host.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* The first two instructions are moved for a guard; the last one stays. */
__asm__(".globl guarded\n.type guarded, @function\n"
	"guarded:\n\tmovsbl (%rsi), %eax\n\tlea (%rdi,%rdi,2), %ecx\n\tlea 1(%rax,%rcx), %eax\n"
	"\tcmp $123456789, %edi\n\tje 1f\n\tret\n1:\tmovl $1, 8\n\tret\n"
	".size guarded, . - guarded\n");

__attribute__((noinline)) static int own(volatile int *p) { return *p; }

__attribute__((noinline)) static int deeper(volatile char *above)
{
	volatile char frame[4096];
	frame[0] = *above;
	return deeper(frame) + frame[0];
}

__attribute__((noinline)) static void smash(void)
{
	void *volatile *frame = __builtin_frame_address(0);
	frame[1] = (void *)0x6161616161;
}

__attribute__((noinline, stack_protect)) static void overflow(void)
{
	char buffer[16];
	volatile char *p = buffer;
	for (int i = 0; i < 64; i++)
		p[i] = 'a';
}

static void *elsewhere(void *p) { return (void *)(long)own(p); }

/* What a guard may call. */
__attribute__((noinline)) int fragile(int n)
{
	if (n == 4242)
		return own((int *)8);
	return n;
}

/* The program's own handlers of a crash: one ends it, one has it happen again, one waits
 * for somebody to look. */
static void aborts(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	abort();
}

static void again(int sig, siginfo_t *info, void *context)
{
	(void)info, (void)context;
	signal(sig, SIG_DFL);
	kill(getpid(), sig);
}

static void waits(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	if (write(1, "waits\n", 6) == 6)
		for (;;)
			pause();
}

static void handle(void (*handler)(int, siginfo_t *, void *))
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		sigaction(signals[i], &action, 0);
}

static void forbid(unsigned call)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof code / sizeof *code, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
		exit(1);
}

/* exhaust calls on a stack that has room for a return address. */
static void exhaust(void)
{
	char *low = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(low, 4096, PROT_NONE);
	__asm__ volatile("mov %%rsp, %%rbx\n\tmov %0, %%rsp\n\tcall guarded\n\tmov %%rbx, %%rsp" ::"r"(low + 4096 + 8), "D"(1), "S"("text")
		: "rbx", "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory");
}

static void resume(int sig) { (void)sig; }

/* born has a child that makes some calls, at once or once it has had a signal, and crashes. */
static void born(int at_once)
{
	char line[32];
	struct sigaction action = {.sa_handler = resume};
	sigaction(SIGUSR1, &action, 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (!at_once)
			pause();
		for (unsigned i = 0; i < 1000; i++)
			call(guarded, i);
		own((int *)8);
	}
	int n = snprintf(line, sizeof line, "child %d\n", pid);
	if (write(1, line, n) == n && waitpid(pid, 0, 0) == pid && write(1, "ended\n", 6) < 0)
		exit(1);
}

static void crash(char how)
{
	pthread_t t;
	volatile int zero = 0;
	switch (how) {
	case 'A': handle(aborts); break;
	case 'R': handle(again); break;
	case 'W': handle(waits); break;
	case 'D': signal(SIGSEGV, SIG_DFL); break;
	case 'Y': forbid(SYS_process_vm_readv); break;
	case 'o': own((int *)8); break;                             /* reads address 8 */
	case 'a': abort();
	case 'c': own((int *)(long)(guarded(-5, "text") & 8)); break; /* by what a call returned */
	case 'i': __builtin_trap();                                 /* an undefined instruction */
	case 'd': zero = 7 / zero; break;
	case 'r': deeper((char *)&zero); break;                     /* no stack is left */
	case 'e': exhaust(); break;                                 /* nor for a guard */
	case 'k': overflow(); break;                                /* the stack protector */
	case 'w': ((void (*)(void))0x4141414141)(); break;          /* calls where nothing is */
	case 'x': ((void (*)(void))&stats)(); break;                /* runs data */
	case 'u': smash(); break;                                   /* returns to where nothing is */
	case 'l': zero = strlen((char *)24); break;                 /* in libc */
	case 'h': free((void *)&stats + 8); break;                  /* libc aborts */
	case 's': kill(getpid(), SIGSEGV); pause(); break;          /* a signal that was sent */
	case 't': pthread_create(&t, 0, elsewhere, (void *)8); pthread_join(t, 0); break;
	case 'b': guarded(123456789, "text"); break;                /* behind what is moved */
	case 'm': guarded(1, (const char *)16); break;              /* in what is moved */
	case 'f': guarded(1, (const char *)0x700000000000); break;  /* the same, by way of PIE's handler */
	case 'v': guarded(4242, "text"); break;                     /* in what a guard calls */
	case 'y': forbid(SYS_getppid); getppid(); break;            /* a system call that is forbidden */
	case 'p': born(1); break;
	case 'q': born(0); break;
	}
}

int main(void)
{
	fcntl(0, F_SETFL, O_NONBLOCK);
	ready();
	for (unsigned i = 0;; i++) {
		char line;
		call(guarded, i);
		if (i % 64 == 0 && read(0, &line, 1) == 1)
			crash(line);
	}
}
