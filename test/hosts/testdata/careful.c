/* careful takes a pointer that it follows for odd numbers only: a guard that always
 * follows it faults. */
static int bear(int n)
{
	__asm__ volatile("" : "+r"(n));
	return n * 5;
}

__attribute__((noinline, noclone, visibility("default"))) int careful(int n, const char *text)
{
	int five = bear(n);
	return n % 2 ? five + text[0] : five;
}
