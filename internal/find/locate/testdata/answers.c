// A library with one name in two versions, and an IFUNC nobody has bound.
int answer_old(void) { return 41; }
int answer_new(void) { return 42; }
__asm__(".symver answer_old, answer@V1");
__asm__(".symver answer_new, answer@@V2");

static int choice(void) { return 43; }
static int (*choose(void))(void) { return choice; }
int chosen(void) __attribute__((ifunc("choose")));
