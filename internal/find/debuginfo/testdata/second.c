/* A second unit: its inline function is another one, and with -flto both units may be
   inlined into each other. */
struct pair { long a, b; };

static inline long sum(const struct pair *p) { return p->a + p->b; }

__attribute__((used, noinline)) long twice(struct pair *p, int more) { return more ? sum(p) * 2 : sum(p); }

__attribute__((used, noinline)) long thrice(const struct pair *p) { return sum(p) * 3; }
