// C++ names as people write them.
#include <cstdio>
#include <string>
#include <unistd.h>

namespace shop {
struct Cart {
	int total = 0;
	__attribute__((noinline)) int add(int price, const std::string &what);
	__attribute__((noinline)) int add(double price);
	__attribute__((noinline)) int clear();
};
int Cart::add(int price, const std::string &what) { return total += price * (int)what.size(); }
int Cart::add(double price) { return total += (int)price; }
int Cart::clear() { return total = 0; }
template <typename T> __attribute__((noinline)) T twice(T v) { return v + v; }
}

int main() {
	shop::Cart c;
	int n = c.add(3, "apple") + c.add(2.5) + c.clear() + shop::twice(4);
	auto clear = &shop::Cart::clear;
	printf("clear %p\nsum %x\nready\n", *(void **)&clear, n);
	fflush(stdout);
	char b;
	while (read(0, &b, 1) > 0) {
	}
}
