// A static function with the name of one in copies.c.
__attribute__((noinline)) static int twin(int n) { return n * 31; }
int other_twin(int n) { return twin(n); }
