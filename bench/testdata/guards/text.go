// Package prepatch rejects a text without an end within 4096 bytes: one string.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id bench-text

// Text looks at every byte of a string.
//
//pie:guard exe=target func=text onfault=pass onfuel=pass
func Text(c *libpie.Call, text libpie.Addr) libpie.Verdict {
	if _, terminated := c.CStr(text, 4096); !terminated {
		return libpie.Reject(int32(-22))
	}
	return libpie.Pass()
}
