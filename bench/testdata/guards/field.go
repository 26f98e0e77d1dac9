// Package prepatch rejects a long message: one field behind a pointer.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id bench-field

type message struct {
	Kind   int32
	Length uint32
	Text   libpie.Addr
}

// Field looks at a length in memory.
//
//pie:guard exe=target func=field onfault=pass onfuel=pass
func Field(c *libpie.Call, m *message) libpie.Verdict {
	if m.Length > 4096 {
		return libpie.Reject(int32(-22))
	}
	return libpie.Pass()
}
