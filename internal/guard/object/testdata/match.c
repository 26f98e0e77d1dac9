/* CVE-2024-31228: patterns with more than 1000 stars; and a walker, a table, a string. */
#include "libpie.h"

PIE("id CVE-2024-31228");
PIE("fixed 7.0.15-1~deb12u2");
PIE("ref https://nvd.nist.gov/vuln/detail/CVE-2024-31228");

PIE_GUARD("exe=redis-server func=stringmatchlen onfault=pass onfuel=reject:0")
u64 match(struct pie_call *c)
{
	s32 n = (s32)c->arg[1];
	if (n < 0 || n > 1 << 20 || pie_count(c->arg[0], n, '*') > 1000)
		return pie_reject(c, 0);
	return PIE_PASS;
}

struct header {
	u8 kind, length;
};

/* A walker over elements of type and length. */
PIE_GUARD("exe=redis-server func=walk onfault=reject:-1 onfuel=reject:errno:EINVAL:-1")
u64 walk(struct pie_call *c)
{
	u64 at = c->arg[0], end = at + (u32)c->arg[1];
	for (int i = 0; i < 64 && at + sizeof(struct header) <= end; i++) {
		struct header h = {PIE_AT(u8, at), PIE_AT(u8, at + 1)};
		if (h.kind == 0 && h.length > 32)
			return pie_reject_errno(c, 22, -1);
		at += sizeof h + h.length;
	}
	return PIE_PASS;
}

static const u16 limit[8] = {1, 2, 4, 8, 100, 200, 400, 800};

static __attribute__((noinline)) u64 too_long(u64 s, u64 max)
{
	return pie_strlen(s, max) == max;
}

/* Constants, a function that is not inlined, and a string. */
PIE_GUARD("exe=redis-server func=name onfault=pass onfuel=pass")
u64 name(struct pie_call *c)
{
	u32 kind = (u32)c->arg[1];
	if (kind >= 8 || too_long(c->arg[0], limit[kind]))
		return pie_reject_void(c);
	if (pie_find(c->arg[0], pie_strlen(c->arg[0], 1024), "${run", 5) >= 0)
		return pie_log(c, 7);
	return PIE_PASS;
}
