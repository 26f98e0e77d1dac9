#include "libpie.h"

PIE("id TEST-0009");

PIE_GUARD("exe=victim func=lookup onfault=reject:-1 onfuel=reject:-1")
u64 check(struct pie_call *c)
{
	if ((s32)c->arg[1] > 100 || pie_strlen(c->arg[0], 64) == 64)
		return pie_reject(c, -7);
	return PIE_PASS;
}
