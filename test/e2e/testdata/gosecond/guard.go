// Package prepatch stands behind or ahead of gohost's guard, on the same function.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id gosecond

// Parse rejects nothing that gohost sends.
//
//pie:guard exe=gohost func=main.(*server).parse onfault=pass onfuel=pass
func Parse(_ *libpie.Call, s libpie.Addr, name libpie.GoString, data libpie.GoSlice, depth int) libpie.Verdict {
	if name.Len > 1<<20 {
		return libpie.RejectGo(libpie.Word(0), libpie.Word(0), libpie.Word(0), libpie.Word(0), libpie.Word(0), libpie.GoVar("io.EOF"))
	}
	return libpie.Pass()
}
