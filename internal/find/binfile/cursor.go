package binfile

// Pointer encodings of .eh_frame (LSB Core, 10.5): a format in the low four
// bits, what it is relative to in the next three, and "indirect".
const (
	peAbs    = 0x00
	peULEB   = 0x01
	peUdata2 = 0x02
	peUdata4 = 0x03
	peUdata8 = 0x04
	peSLEB   = 0x09
	peSdata2 = 0x0a
	peSdata4 = 0x0b
	peSdata8 = 0x0c
	pePCRel  = 0x10
	peOmit   = 0xff
)

// cursor reads a byte string from front to back; the first error sticks and
// everything read after it is zero.
type cursor struct {
	b   []byte
	at  uint64 // address of b[0]
	bad error
}

// take returns the next n bytes; callers ask for a small constant.
func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.fail("ends early")
	}
	if c.bad != nil {
		return make([]byte, n)
	}
	b := c.b[:n]
	c.b, c.at = c.b[n:], c.at+uint64(n)
	return b
}

// fail keeps the first error.
func (c *cursor) fail(format string, args ...any) {
	if c.bad == nil {
		c.bad = malformed("record", c.at, format, args...)
	}
}

func (c *cursor) skip(n int)  { c.take(n) }
func (c *cursor) u8() byte    { return c.take(1)[0] }
func (c *cursor) u32() uint32 { return le.Uint32(c.take(4)) }

// cstring reads at most limit bytes and a NUL.
func (c *cursor) cstring(limit int) string {
	for i := 0; i <= limit && i < len(c.b); i++ {
		if c.b[i] == 0 {
			return string(c.take(i + 1)[:i])
		}
	}
	c.fail("a string has no end")
	return ""
}

func (c *cursor) uleb() (v uint64) {
	for shift := 0; shift < 70; shift += 7 {
		b := c.u8()
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b&0x80 == 0 {
			return v
		}
	}
	c.fail("a LEB128 number has no end")
	return 0
}

func (c *cursor) sleb() int64 {
	var v int64
	for shift := 0; shift < 70; shift += 7 {
		b := c.u8()
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		if b&0x80 == 0 {
			if b&0x40 != 0 && shift < 57 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
	c.fail("a LEB128 number has no end")
	return 0
}

// pointer reads an encoded pointer. Indirect ones and those relative to text,
// data or function are not met in the files of x86-64 compilers; refusing them
// is better than a wrong range.
func (c *cursor) pointer(enc byte) uint64 {
	if enc == peOmit {
		return 0
	}
	base := uint64(0)
	switch enc & 0xf0 {
	case 0:
	case pePCRel:
		base = c.at
	default:
		c.fail("a pointer of encoding %#x", enc)
		return 0
	}
	v := uint64(0)
	switch enc & 0x0f {
	case peAbs, peUdata8, peSdata8:
		v = le.Uint64(c.take(8))
	case peUdata2:
		v = uint64(le.Uint16(c.take(2)))
	case peSdata2:
		v = uint64(int16(le.Uint16(c.take(2))))
	case peUdata4:
		v = uint64(c.u32())
	case peSdata4:
		v = uint64(int32(c.u32()))
	case peULEB:
		v = c.uleb()
	case peSLEB:
		v = uint64(c.sleb())
	default:
		c.fail("a pointer of encoding %#x", enc)
		return 0
	}
	if v == 0 {
		return 0
	}
	return base + v
}
