#include "host.h"
#ifndef PLUS
#define PLUS 1 /* the other version of the library answers otherwise */
#endif

__attribute__((noinline, noclone)) static int thrice(int n)
{
	__asm__ volatile("" : "+r"(n));
	return n * 3;
}

__attribute__((noinline, noclone, visibility("default"))) int guarded(int n, const char *text)
{
	int three = thrice(n);
	return three + text[0] + PLUS;
}
