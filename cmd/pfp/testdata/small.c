__attribute__((noinline)) int visible(int n) { return n * 3; }
static __attribute__((noinline)) int hidden(int n) { return visible(n) + 1; }
int main(int argc, char **argv) { return hidden(argc) == 4; }
