/* births threads|processes|sandboxes: what is born and ends as fast as the machine
 * can. A sandbox is a child that lets a filter kill it for any call but its exit. */
#include "host.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void *once(void *start)
{
	for (unsigned i = 0; i < 6; i++)
		call(guarded, (unsigned)(uintptr_t)start + i);
	return 0;
}

static void *threads(void *start)
{
	for (uintptr_t i = (uintptr_t)start;; i += 6) {
		pthread_t t[4];
		for (int k = 0; k < 4; k++)
			if (pthread_create(&t[k], 0, once, (void *)(i + k)))
				count(&stats.wrong);
		for (int k = 0; k < 4; k++)
			pthread_join(t[k], 0);
	}
	return 0;
}

/* A child's calls are checked in the child: it must end with 0. */
static int child(unsigned i)
{
	stats = (struct stats){0};
	for (unsigned k = 0; k < 6; k++)
		call(guarded, i + k);
	return stats.wrong != 0;
}

static void wait_for(pid_t pid, const char *how)
{
	int status = -1;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "%s: child ended with %#x\n", how, status);
		count(&stats.wrong);
	}
}

static void sandbox(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the number */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(4);
}

static void sandboxes(void)
{
	for (unsigned i = 0;; i++) {
		call(guarded, i);
		pid_t pid = fork();
		if (pid == 0) {
			sandbox();
			_exit(child(i));
		}
		wait_for(pid, "sandbox");
	}
}

static void processes(char *self)
{
	char *args[] = {self, "once", 0}, *none[] = {0};
	for (unsigned i = 0;; i++) {
		call(guarded, i);
		pid_t pid;
		switch (i % 4) {
		case 0:
			if ((pid = fork()) == 0)
				_exit(child(i));
			wait_for(pid, "fork");
			break;
		case 1:
			if ((pid = vfork()) == 0) {
				execve("/proc/self/exe", args, none);
				_exit(3);
			}
			wait_for(pid, "vfork");
			break;
		case 2:
			if (posix_spawn(&pid, "/proc/self/exe", 0, 0, args, none))
				pid = -1;
			wait_for(pid, "posix_spawn");
			break;
		case 3:
			if ((pid = fork()) == 0) {
				execve("/proc/self/exe", args, none);
				_exit(3);
			}
			wait_for(pid, "fork and exec");
		}
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "once") == 0)
		return child(1);
	pthread_t t;
	ready();
	if (argc > 1 && strcmp(argv[1], "processes") == 0)
		processes(argv[0]);
	if (argc > 1 && strcmp(argv[1], "sandboxes") == 0)
		sandboxes();
	pthread_create(&t, 0, threads, 0);
	threads((void *)1000000);
}
