/* A server in small: reads commands, one a line, and answers with a number.
 *
 *   N      lookup(N): a number above 100 kills it, unless a guard stands in front
 *   fN     the same in a child: its exit status, or minus the signal it died of
 *   k      forks a child that stays as long as its parent, and answers with its pid
 *   e      the same, and the child executes the program anew
 *   b      overwrites lookup with breakpoints, as another patcher might
 *
 * victim trace PID attaches to a process as a debugger does and stays. */
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int other(int n);

__attribute__((noipa)) int lookup(const char *name, int n)
{
	volatile char *table = n > 100 ? 0 : "ok";
	return (int)strlen(name) + n + table[0] * 0;
}

/* A loop goes back to its second instruction, and makes a call: there is no place for a jump. */
__asm__(".globl spin\n.type spin, @function\n"
	"spin:\n\tpush %rbx\n1:\tdec %edi\n\tcall 2f\n2:\tpop %rcx\n\tadd $3, %eax\n\tcmp $0, %edi\n\tjnz 1b\n\tpop %rbx\n\tret\n"
	".size spin, . - spin\n");

__attribute__((noipa)) static int twin(int n) { return n * 3 + (int)getpid(); }

static int forked(int n)
{
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(lookup("x", n) & 0x7f);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int kept(int executes)
{
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (executes)
			execl("/proc/self/exe", "victim", "stay", (char *)0);
		for (;;)
			pause();
	}
	return child;
}

static int overwrite(void)
{
	uintptr_t page = (uintptr_t)lookup & ~(uintptr_t)4095;
	if (mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC))
		return -1;
	memset((void *)lookup, 0xcc, 16);
	return mprotect((void *)page, 8192, PROT_READ | PROT_EXEC);
}

static int answer(const char *line)
{
	switch (line[0]) {
	case 'f':
		return forked(atoi(line + 1));
	case 'k':
		return kept(0);
	case 'e':
		return kept(1);
	case 'b':
		return overwrite();
	}
	return lookup("abc", atoi(line));
}

int main(int argc, char **argv)
{
	char line[64];
	setvbuf(stdout, 0, _IONBF, 0);
	if (argc == 3 && ptrace(PTRACE_SEIZE, atoi(argv[2]), 0, 0))
		return 1;
	while (argc == 2)
		pause();
	if (argc == 4)
		return twin(argc) + other(argc);
	while (fgets(line, sizeof line, stdin))
		printf("%d\n", answer(line));
	return 0;
}
