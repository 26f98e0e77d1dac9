/* A C++ program whose exceptions and longjmps go through the guarded function. */
#include "host.h"
#include <csetjmp>
#include <stdexcept>
#include <thread>

static thread_local jmp_buf out;

struct Cleaned { // a destructor that unwinding must run
	int &n;
	~Cleaned() { n++; }
};

__attribute__((noinline)) static int inner(int n)
{
	if (n % 5 == 0)
		throw std::runtime_error("five");
	if (n % 7 == 0)
		longjmp(out, n + 1);
	return n * 3;
}

static thread_local int cleaned;

extern "C" __attribute__((noinline)) int guarded(int n, const char *text)
{
	if (n % 7 == 0)
		return inner(n) + text[0] + 1; // longjmp past a destructor would be undefined
	Cleaned c{cleaned};
	return inner(n) + text[0] + 1;
}

static void round(unsigned i)
{
	volatile int n = i % 3 == 1 ? -(int)(i % 1000) - 1 : (int)(i % 1000);
	volatile int before = cleaned;
	int jumped = setjmp(out);
	if (jumped) {
		verdict(jumped, n + 1, 1);
		return;
	}
	try {
		int result = guarded(n, "text");
		verdict(result, answer(n, "text"), n >= 0);
		if (result != REJECTED && n % 7 != 0 && cleaned != before + 1)
			count(&stats.wrong);
	} catch (const std::runtime_error &e) {
		verdict(e.what()[0] == 'f' && n % 5 == 0 && cleaned == before + (n % 7 != 0), 1, 1);
	}
}

int main(int, char **argv)
{
	for (int t = 1; t < atoi(argv[2]); t++)
		std::thread([] { for (unsigned i = 0;; i++) round(i); }).detach();
	ready();
	for (unsigned i = 0;; i++)
		round(i);
}
