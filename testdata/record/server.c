/* A server under load: threads call parse() with strings of their own, some with
 * an address that cannot be read, and check the answers. A line on stdin is answered
 * with the calls made and the wrong answers among them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static long calls, wrong;

__attribute__((noipa)) int parse(const char *s, int n)
{
	int stars = 0;
	if (n < 0)
		return -1; /* s is not looked at */
	for (int i = 0; i < n; i++)
		stars += s[i] == '*';
	return stars;
}

static void *work(void *arg)
{
	unsigned seed = (unsigned)(long)arg;
	char b[256];
	for (int k = 0;; k++) {
		int n = rand_r(&seed) % 256, want = 0;
		for (int i = 0; i < n; i++) {
			b[i] = rand_r(&seed) % 8 ? 'a' : '*';
			want += b[i] == '*';
		}
		if (parse(b, n) != want || parse((char *)0x123456789000, -n - 1) != -1)
			__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&calls, 2, __ATOMIC_RELAXED);
		if (k % 8 == 0)
			usleep(100);
	}
}

int main(void)
{
	pthread_t t;
	for (long i = 0; i < 4; i++)
		pthread_create(&t, 0, work, (void *)i);
	setvbuf(stdout, 0, _IONBF, 0);
	for (char line[16]; fgets(line, sizeof line, stdin);)
		printf("%ld %ld\n", __atomic_load_n(&calls, __ATOMIC_RELAXED), __atomic_load_n(&wrong, __ATOMIC_RELAXED));
	return 0;
}
