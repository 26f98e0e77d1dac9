// One name in two versions.
int answer_old(void) { return 41; }
int answer_new(void) { return 42; }
__asm__(".symver answer_old, answer@V1");
__asm__(".symver answer_new, answer@@V2");
