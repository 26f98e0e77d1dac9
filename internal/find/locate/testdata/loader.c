// Loads the library named by its first argument, a second time in a namespace
// of its own when there is another argument, and waits for its standard input
// to end.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *load(Lmid_t where, const char *path) {
	void *lib = dlmopen(where, path, RTLD_NOW);
	if (lib == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return lib;
}

int main(int argc, char **argv) {
	void *lib = load(LM_ID_BASE, argv[1]);
	printf("answer %p\n", dlsym(lib, "answer"));
	printf("old_answer %p\n", dlvsym(lib, "answer", "V1"));
	if (argc > 2)
		printf("second_answer %p\n", dlsym(load(LM_ID_NEWLM, argv[1]), "answer"));
	printf("ready\n");
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
	return 0;
}
