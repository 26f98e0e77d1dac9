// Functions for the tables of an ELF file: static, aliased, recursive, chosen
// at run time.
__attribute__((noinline)) static int inner(int n) { return n * 5 + 1; }

__attribute__((noinline)) int outer(int n) { return inner(n) - inner(n + 2); }

int alias_of_outer(int n) __attribute__((alias("outer")));

__attribute__((noinline)) int recursive(int n) { return n < 2 ? n : recursive(n - 1) + recursive(n - 2); }

static int choice(int n) { return n; }

static int (*choose(void))(int) { return choice; }

int chosen(int n) __attribute__((ifunc("choose")));

int main(int argc, char **argv) { return outer(argc) + recursive(argc) + chosen(argc); }
