static volatile int table[128];

__attribute__((noipa)) int lookup(int n)
{
	table[n & 127] += n;
	return n;
}
