/* A server that works in children: each lives for 250 ms and calls parse() every
 * millisecond; one at a time. The parent calls it never. */
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noipa)) int parse(const char *s, int n)
{
	int stars = 0;
	for (int i = 0; i < n; i++)
		stars += s[i] == '*';
	return stars;
}

int main(void)
{
	for (;;) {
		if (fork() == 0) {
			for (int i = 0; i < 250; i++) {
				if (parse("a*b", 3) != 1)
					_exit(1);
				usleep(1000);
			}
			_exit(0);
		}
		wait(0);
	}
}
