// Package prepatch rejects a long message: one compare of a register.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id bench-compare

// Compare looks at a length in a register.
//
//pie:guard exe=target func=compare onfault=pass onfuel=pass
func Compare(c *libpie.Call, text libpie.Addr, length int32) libpie.Verdict {
	if length > 4096 {
		return libpie.Reject(int32(-22))
	}
	return libpie.Pass()
}
