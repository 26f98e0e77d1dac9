/* A server that loads the library of its argument when the number 0 is read, anew if it
 * has it, and from then on answers each number with what the library's lookup says of it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	int (*lookup)(int) = 0;
	void *library = 0;
	char line[64];
	setvbuf(stdout, 0, _IONBF, 0);
	while (argc == 2 && fgets(line, sizeof line, stdin)) {
		int n = atoi(line);
		if (n == 0) {
			if (library)
				dlclose(library);
			library = dlopen(argv[1], RTLD_NOW);
			lookup = library ? (int (*)(int))dlsym(library, "lookup") : 0;
			printf("%d\n", lookup != 0);
			continue;
		}
		printf("%d\n", lookup ? lookup(n) : n);
	}
	return 0;
}
