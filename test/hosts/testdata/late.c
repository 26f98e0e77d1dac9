/* late puts handlers for SIGSEGV and SIGBUS of its own in the place of those that it finds,
 * to which it hands on, when it is told "handlers". Told "unreadable" it calls careful with
 * a pointer that cannot be read, told "crash" it follows one. */
#include "host.h"
#include <pthread.h>
#include <signal.h>

int careful(int n, const char *text);

static struct sigaction found[2]; /* SIGSEGV's and SIGBUS's */
static _Atomic(const char *) text = "text";
static _Atomic(volatile char *) followed;

static void handler(int sig, siginfo_t *info, void *context)
{
	struct sigaction *f = &found[sig == SIGBUS];
	if (f->sa_flags & SA_SIGINFO)
		f->sa_sigaction(sig, info, context);
	else if (f->sa_handler == SIG_DFL)
		signal(sig, SIG_DFL); /* and it happens again */
	else
		f->sa_handler(sig);
}

static void *obey(void *arg)
{
	static char line[64];
	struct sigaction own = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	(void)arg;
	while (fgets(line, sizeof line, stdin)) {
		if (!strcmp(line, "handlers\n") && (sigaction(SIGSEGV, &own, &found[0]) || sigaction(SIGBUS, &own, &found[1])))
			exit(1);
		if (!strcmp(line, "unreadable\n"))
			text = (const char *)0x7fffffff000;
		if (!strcmp(line, "crash\n"))
			followed = (volatile char *)0x7fffffff000;
		if (write(1, line, strlen(line)) < 0)
			exit(1);
	}
	exit(0);
}

int main(void)
{
	pthread_t thread;
	pthread_create(&thread, 0, obey, 0);
	ready();
	for (unsigned i = 0;; i++) {
		call(guarded, i);
		if (careful(i % 1000 * 2, text) != (int)(i % 1000 * 10))
			count(&stats.wrong);
		if (followed)
			*followed = 0;
	}
}
