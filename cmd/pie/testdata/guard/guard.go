// Package prepatch guards the test's victim.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id    TEST-0001
//pie:fixed 2.0

// Lookup rejects what would kill the victim.
//
//pie:guard exe=victim func=lookup onfault=pass onfuel=reject:-1
func Lookup(_ *libpie.Call, _ libpie.Addr, n int32) libpie.Verdict {
	if n > 100 {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
