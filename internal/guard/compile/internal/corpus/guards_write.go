package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus
//pie:cap write

type record struct {
	_     uint16
	size  uint16
	flags uint32
	next  libpie.Addr
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Puts(c *libpie.Call, h *record, a libpie.Addr, n int32) libpie.Verdict {
	before := h.next
	c.Put8(a, uint8(n))
	c.Put16(a+2, 0xfffe)
	c.Put16(libpie.AddrOf(&h.size), h.size+1)
	c.Put32(a+4, uint32(n))
	c.Put32(libpie.AddrOf(&h.flags), 0xffffffff)
	if h.flags != 0xffffffff || *libpie.At[uint32](a + 4) == 0xffffffff {
		return libpie.Log(uint32(h.size))
	}
	c.Put64(libpie.AddrOf(&h.next), 0x1122334455667788)
	c.Put64(a, uint64(before))
	return libpie.Reject(uint64(h.next) ^ uint64(*libpie.At[uint16](a + 1)))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Zeroes(c *libpie.Call, a libpie.Addr, n int32, m uint8) libpie.Verdict {
	c.Zero(a, int(m))
	seen := c.Bytes(a, 64).Count(0)
	for i := range int(m % 8) {
		c.Put8(a+libpie.Addr(3*i), 0x80|uint8(i))
	}
	if n&1 == 0 {
		c.Zero(a+5, int(n))
	}
	return libpie.Reject(uint64(seen) ^ *libpie.At[uint64](a + 9))
}
