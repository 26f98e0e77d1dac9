/* preserving calls a function of clang's preserve_most convention, whose callers keep
 * values in nearly every register across the call. */
#define guarded ordinary
#include "host.h"
#undef guarded

__attribute__((preserve_most, noinline, visibility("default"))) int guarded(int n, const char *text)
{
	__asm__ volatile("" : "+r"(n));
	return answer(n, text);
}

int main(void)
{
	ready();
	for (unsigned long i = 0;; i++) {
		unsigned long a = i + 1, b = i + 2, c = i + 3, d = i + 4, e = i + 5, f = i + 6, g = i + 7, h = i + 8;
		int n = i % 3 == 1 ? -(int)(i % 1000) - 1 : (int)(i % 1000);
		const char *text = i % 6 == 2 ? "!" : "text";
		__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f), "+r"(g), "+r"(h));
		int result = guarded(n, text);
		__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f), "+r"(g), "+r"(h));
		if (a + b + c + d + e + f + g + h != 8 * i + 36)
			count(&stats.wrong);
		verdict(result, answer(n, text), n >= 0 && text[0] != '!');
	}
}
