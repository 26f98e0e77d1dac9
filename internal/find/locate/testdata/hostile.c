// A process that maps odd things for execution: a text file, a file that is
// cut off behind its back, a device; and has a library of a strange name.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void map(const char *path, int flags) {
	int fd = open(path, O_RDWR);
	if (fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_EXEC, flags, fd, 0) == MAP_FAILED) {
		perror(path);
		exit(1);
	}
}

// Arguments: a folder with the files "text" and "cut", and a library.
int main(int argc, char **argv) {
	if (chdir(argv[1]) != 0)
		return 1;
	map("text", MAP_PRIVATE);
	map("cut", MAP_PRIVATE);
	if (truncate("cut", 100) != 0)
		return 1;
	map("/dev/zero", MAP_PRIVATE);
	void *lib = dlopen(argv[2], RTLD_NOW);
	if (lib == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	printf("answer %p\n", dlsym(lib, "answer"));
	printf("ready\n");
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
	return 0;
}
