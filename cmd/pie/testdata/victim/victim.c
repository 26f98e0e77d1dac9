/* A server in small: reads numbers, one a line, and answers with what lookup
 * says. A number above 100 kills it, unless a guard stands in front. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noipa)) int lookup(const char *name, int n)
{
	volatile char *table = n > 100 ? 0 : "ok";
	return (int)strlen(name) + n + table[0] * 0;
}

__attribute__((noipa)) int forked(int n)
{
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(lookup("x", n) & 0x7f);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int main(void)
{
	char line[64];
	setvbuf(stdout, 0, _IONBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		if (line[0] == 'f')
			printf("%d\n", forked(atoi(line + 1)));
		else
			printf("%d\n", lookup("abc", atoi(line)));
	}
	return 0;
}
