#include <unistd.h>
#undef main /* which the command line makes shop, for shop.c */

int shop(int argc, char **argv);

/* The program that shop.c is part of: it tells that it runs, and waits. */
int main(int argc, char **argv)
{
	if (write(1, "\n", 1) != 1)
		return 1;
	pause();
	return shop(argc, argv);
}
