// Classes: bases, virtual functions, templates, namespaces.
#include <string>
#include <vector>

struct Base {
	virtual ~Base() {}
	int id;
};
struct Request : Base {
	std::string name;
	std::vector<int> values;
	bool open;
	static int count;
	long type;
};
int Request::count;
namespace srv {
template <class T, int N> struct Box {
	T values[N];
	struct Inside {
		T one;
	} inside;
};
struct Session {
	struct Nested {
		long depth;
	};
	Box<short, 3> box;
	Nested nested;
	Request *request;
	Request first;
	int handle(int len, double x, const std::string &s, Request &r) const;
};
__attribute__((noipa)) int Session::handle(int len, double x, const std::string &s, Request &r) const
{
	return len + (int)x + (int)s.size() + r.id + (request != nullptr);
}
__attribute__((noipa)) std::string text(int n) { return std::string(n, 'x'); }
__attribute__((noipa)) void nothing() {}
}

int main(int argc, char **)
{
	srv::Session s = {};
	srv::nothing();
	return s.handle(argc, 1.5, srv::text(argc), s.first);
}
