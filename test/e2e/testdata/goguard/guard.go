// Package prepatch answers a long name with io.EOF.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id gohost

// Parse rejects names of more than 64 bytes: an empty string, a nil slice and
// io.EOF are seven words.
//
//pie:guard exe=gohost func=main.(*server).parse onfault=pass onfuel=pass
func Parse(_ *libpie.Call, s libpie.Addr, name libpie.GoString, data libpie.GoSlice, depth int) libpie.Verdict {
	if name.Len > 64 {
		return libpie.RejectGo(libpie.Word(0), libpie.Word(0), libpie.Word(0), libpie.Word(0), libpie.Word(0), libpie.GoVar("io.EOF"))
	}
	return libpie.Pass()
}
