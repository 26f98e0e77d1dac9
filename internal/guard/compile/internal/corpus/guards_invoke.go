package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus
//pie:cap call exit

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Invokes(c *libpie.Call, n int32, a libpie.Addr, m uint8) libpie.Verdict {
	sum := c.Invoke("sum", libpie.Word(n), libpie.Word(a), libpie.Word(m), libpie.Word(true), libpie.Word(-5), libpie.Word(m+1))
	none := c.Invoke("none")
	for range m % 4 {
		sum.Word ^= c.Invoke("sum", libpie.Word(sum.Word)).Double
	}
	if none.Errno != 0 {
		return libpie.Reject(int64(none.Errno))
	}
	if m > 250 {
		c.Invoke("faulty", libpie.Word(m))
	}
	return libpie.Reject(sum.Word + uint64(sum.Errno)<<32 + none.Double)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Exits(c *libpie.Call, n int32) libpie.Verdict {
	if n < 0 {
		return libpie.Exit(n).WithCode(9)
	}
	return libpie.Pass()
}
