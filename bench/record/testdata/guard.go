// Package prepatch is the guard of the benchmark: it looks at 64 bytes.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id       BENCH-RECORD
//pie:evidence memory

//pie:guard exe=* func=parse onfault=pass onfuel=reject:0
func Parse(c *libpie.Call, s libpie.Addr, n int32) libpie.Verdict {
	if c.Bytes(s, int(n)).Count('*') > 40 {
		return libpie.Reject(int32(0))
	}
	return libpie.Pass()
}
