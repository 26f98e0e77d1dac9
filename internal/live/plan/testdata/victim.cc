// C++ for the detour test: exceptions unwind through detoured functions, the
// unwinder and the library's own functions are detoured too.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

extern "C" void load(const char *path, unsigned long arena, unsigned long size);

struct guard {
	int *n;
	explicit guard(int *n) : n(n) { ++*n; }
	~guard() { --*n; }
};

struct shape {
	virtual ~shape() = default;
	virtual int area(int) const = 0;
};
struct square : shape { int area(int n) const override { return n * n; } };
struct thrower : shape { int area(int n) const override { throw std::runtime_error("area " + std::to_string(n)); } };

__attribute__((noinline)) int descend(int n, int *depth, const shape &s)
{
	guard g(depth);
	if (n == 0)
		return s.area(7);
	return descend(n - 1, depth, s) + 1;
}

__attribute__((noinline)) static int rethrow(int n)
{
	try {
		if (n % 3 == 0)
			throw n;
		return std::vector<int>(n).at(n * (n % 2));
	} catch (const std::out_of_range &) {
		return -1;
	} catch (int) {
		throw std::logic_error("rethrown");
	}
}

static std::string work(int seed)
{
	std::ostringstream out;
	std::map<std::string, int> counts;
	for (int i = 0; i < 50; i++)
		counts["key" + std::to_string(i * seed % 13)] += i;
	for (auto &c : counts)
		out << c.first << '=' << c.second << ' ';
	int depth = 0;
	std::unique_ptr<shape> a(new square), b(new thrower);
	for (auto *s : {a.get(), b.get()}) {
		try {
			out << descend(seed % 20, &depth, *s) << ' ';
		} catch (const std::exception &e) {
			out << e.what() << ' ' << depth << ' ';
		}
	}
	for (int i = 1; i < 8; i++) {
		try {
			out << rethrow(i) << ' ';
		} catch (const std::exception &e) {
			out << e.what() << ' ';
		}
	}
	std::function<int(int)> f = [&](int n) { return n < 2 ? n : f(n - 1) + f(n - 2); };
	out << f(10) << ' ' << std::hash<std::string>()("x") % 97;
	return out.str();
}

int main(int argc, char **argv)
{
	if (argc > 3)
		load(argv[1], std::stoul(argv[2], nullptr, 0), std::stoul(argv[3], nullptr, 0));
	for (int i = 1; i < 6; i++)
		std::puts(work(i).c_str());
	std::vector<std::string> results(4);
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back([&results, i] { for (int n = 0; n < 50; n++) results[i] = work(i + n); });
	for (auto &t : threads)
		t.join();
	for (auto &r : results)
		std::puts(r.c_str());
}
