/* A native library as other languages' runtimes have them: entry points for JNI,
 * Node-API and Rust around the same two functions. */
#include "host.h"
#include <sys/mman.h>

int careful(int n, const char *text);

static const char *unreadable[3];

/* native_ready says where the counts are. */
void native_ready(void)
{
	FILE *f = tmpfile();
	unreadable[0] = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unreadable[1] = mmap(0, 4096, PROT_READ, MAP_SHARED, fileno(f), 0); /* SIGBUS: the file is empty */
	unreadable[2] = (char *)0x7fffffff000;
	ready();
}

/* native_calls makes some calls; each result is checked. */
void native_calls(int from)
{
	for (unsigned i = from; i < (unsigned)from + 64; i++) {
		call(guarded, i);
		int n = i % 1000 * 2;
		if (careful(n, unreadable[i % 3]) != n * 5 || careful(n + 1, "text") != (n + 1) * 5 + 't')
			count(&stats.wrong);
	}
}

/* native_wrong counts what the runtime found wrong itself. */
void native_wrong(void) { count(&stats.wrong); }

void Java_Host_ready(void *env, void *class) { native_ready(); }
void Java_Host_calls(void *env, void *class, int from) { native_calls(from); }
void Java_Host_wrong(void *env, void *class) { native_wrong(); }

/* As node_api.h has them; weak, since other hosts have none. */
typedef void *napi_value;
typedef napi_value (*napi_callback)(void *env, void *info);
#pragma weak napi_create_function
#pragma weak napi_set_named_property
#pragma weak napi_get_cb_info
#pragma weak napi_get_value_int32
int napi_create_function(void *env, const char *name, size_t length, napi_callback f, void *data, napi_value *out);
int napi_set_named_property(void *env, napi_value object, const char *name, napi_value v);
int napi_get_cb_info(void *env, void *info, size_t *argc, napi_value *argv, napi_value *this, void **data);
int napi_get_value_int32(void *env, napi_value v, int *out);

static napi_value node_ready(void *env, void *info) { return native_ready(), (napi_value)0; }
static napi_value node_wrong(void *env, void *info) { return native_wrong(), (napi_value)0; }

static napi_value node_calls(void *env, void *info)
{
	size_t n = 1;
	napi_value arg;
	int from = 0;
	napi_get_cb_info(env, info, &n, &arg, 0, 0);
	napi_get_value_int32(env, arg, &from);
	native_calls(from);
	return 0;
}

napi_value napi_register_module_v1(void *env, napi_value exports)
{
	static const struct { const char *name; napi_callback f; } all[] = {{"ready", node_ready}, {"calls", node_calls}, {"wrong", node_wrong}};
	for (int i = 0; i < 3; i++) {
		napi_value f;
		napi_create_function(env, all[i].name, strlen(all[i].name), all[i].f, 0, &f);
		napi_set_named_property(env, exports, all[i].name, f);
	}
	return exports;
}
