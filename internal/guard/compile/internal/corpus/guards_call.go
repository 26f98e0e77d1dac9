package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Callers(c *libpie.Call, a int32) libpie.Verdict {
	n := int64(a)
	if c.CalledFrom("parse") {
		n ^= 1
	}
	if c.CalledFrom("lib.c:emit") {
		n ^= 2
	}
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Globals(c *libpie.Call, a uint8) libpie.Verdict {
	h := libpie.GlobalOf[header](c, "current")
	if h.kind > a {
		return libpie.Reject(h.count)
	}
	return libpie.Reject(c.Bytes(c.Global("table"), int(a)).Count('a'))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Recursion(c *libpie.Call, most uint16) libpie.Verdict {
	if n := c.StackUsed(); n > int(most) {
		return libpie.Reject(n)
	}
	return libpie.Pass()
}
