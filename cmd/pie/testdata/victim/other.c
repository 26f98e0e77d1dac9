#include <unistd.h>

/* Another function of the same name as one in victim.c. */
__attribute__((noipa)) static int twin(int n) { return n * 5 + (int)getppid(); }

int other(int n) { return twin(n) + 1; }
