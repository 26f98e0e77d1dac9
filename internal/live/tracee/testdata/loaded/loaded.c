// A program that says when its initializers run, and when main does.
#include <math.h>
#include <unistd.h>

__attribute__((constructor)) static void initialize(void) { write(1, "c", 1); }

int main(int argc, char **argv) {
	(void)argv;
	write(1, "m", 1);
	return cos(argc) == 2;
}
