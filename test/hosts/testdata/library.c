/* library NEW OLD…: calls the guarded function of one or two libraries, opened at
 * run time; what the second answers differs. A line on stdin opens the next one. */
#include "host.h"
#include <dlfcn.h>
#include <fcntl.h>

enum { MOST = 4 };
static int (*functions[MOST])(int, const char *);
static int n;

static void open_library(const char *path)
{
	void *l = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!l || !(functions[n] = (int (*)(int, const char *))dlsym(l, "guarded"))) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	n++;
}

static void check(int k, unsigned i)
{
	int v = i % 3 == 1 ? -(int)(i % 1000) - 1 : (int)(i % 1000);
	verdict(functions[k](v, "text"), answer(v, "text") + k, v >= 0);
}

int main(int argc, char **argv)
{
	fcntl(0, F_SETFL, O_NONBLOCK);
	open_library(argv[1]);
	ready();
	for (int next = 2;;) {
		for (unsigned i = 0; i < 200000; i++)
			check(i % n, i / n);
		char line;
		if (next < argc && read(0, &line, 1) == 1) {
			open_library(argv[next++]);
			ready();
		}
	}
}
