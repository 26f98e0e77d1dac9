package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus
//pie:cap rewrite

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Rewriting(c *libpie.Call, n int32, a uint64) libpie.Verdict {
	switch {
	case n > 100:
		c.SetArg(0, 100)
		return libpie.Rewrite()
	case n < 0:
		swapped(c, int64(n), a)
		return libpie.Rewrite().WithCode(7)
	case n == 0:
		c.SetArg(1, -1)
		return libpie.Reject(n)
	}
	c.SetArg(1, int64(a)+1)
	return libpie.Pass()
}

func swapped(c *libpie.Call, n int64, a uint64) {
	c.SetArg(0, int64(a))
	c.SetArg(1, n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func CString(c *libpie.Call, a libpie.Addr, limit uint8) libpie.Verdict {
	s, terminated := c.CStr(a, int(limit))
	if !terminated {
		return libpie.Reject(-s.Len())
	}
	return libpie.Reject(s.Len() + int(s.Addr()-a))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Counting(c *libpie.Call, a libpie.Addr, n int32, b uint8) libpie.Verdict {
	if c.Bytes(a, int(n)).Count('a') > 3 {
		return libpie.Reject(int32(0))
	}
	return libpie.Reject(c.Bytes(a, int(n)).Count(b))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Finding(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m := c.Bytes(a, int(n))
	if m.Contains("abc") {
		return libpie.Reject(m.Find("abc"))
	}
	if i := m.Index('c'); i >= 0 {
		return libpie.Reject(i)
	}
	if m.Contains("b") && m.Contains("") {
		return libpie.Pass()
	}
	return libpie.Reject(m.Find("aa") + m.Find("") + m.Find("d"))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Prefixes(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m := c.Bytes(a, int(n))
	x := 0
	if m.HasPrefix("a") {
		x |= 1
	}
	if m.HasPrefix("ab") {
		x |= 2
	}
	if m.HasSuffix("abc") {
		x |= 4
	}
	if m.Equal("abcab") {
		x |= 8
	}
	if m.HasPrefix("abababab") || m.HasPrefix("aaaaaaaaa") {
		x |= 16
	}
	if m.HasSuffix("") && m.HasPrefix("") && !m.Equal("") {
		x |= 32
	}
	return libpie.Reject(x)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func LongText(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m := c.Bytes(a, int(n))
	return libpie.Reject(m.HasPrefix("abcdabcdabcdabcdabcdabcdabcdabcdabcd") || m.Equal("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") || m.HasSuffix("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Slices(c *libpie.Call, a libpie.Addr, n uint8, i, j int16) libpie.Verdict {
	m := c.Bytes(a, int(n)).Slice(int(i), int(j))
	if m.Len() > 4 {
		m = m.Slice(1, 3)
	}
	return libpie.Reject(int(m.Addr()-a)*1000 + m.Len()*10 + m.Count('a'))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func MemAt(c *libpie.Call, a libpie.Addr, n int8, i int32) libpie.Verdict {
	m := c.Bytes(a, int(n))
	return libpie.Reject(uint32(m.At(int(i))) | uint32(m.At(3))<<8)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func SameMem(c *libpie.Call, a, b libpie.Addr, n, m uint8) libpie.Verdict {
	return libpie.Reject(c.Bytes(a, int(n&7)).EqualMem(c.Bytes(b, int(m&7))))
}

func isBase64(b byte) bool {
	return 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' || '0' <= b && b <= '9' || b == '+' || b == '/'
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func Base64(c *libpie.Call, a libpie.Addr) libpie.Verdict {
	s, ok := c.CStr(a, 1024)
	if !ok || s.Len()%4 != 0 {
		return libpie.Reject(int32(-1))
	}
	for i := range s.Len() {
		if !isBase64(s.At(i)) && (s.At(i) != '=' || i < s.Len()-2) {
			return libpie.Reject(int32(i))
		}
	}
	return libpie.Pass()
}

const classes = "\x00\x01\x01\x02\x03\x05\x08\x0d\x15\x22"

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ConstantTable(c *libpie.Call, i uint8, j int32) libpie.Verdict {
	return libpie.Reject(classes[i%10] + classes[j] + "xyz"[1])
}

func begins(m libpie.Mem, with string) bool { return m.Len() > len(with) && m.HasPrefix(with) }

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func TextParameter(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m := c.Bytes(a, int(n))
	return libpie.Reject(begins(m, "ab") || begins(m, "ca"))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Lengths(c *libpie.Call, a libpie.Addr, n int64) libpie.Verdict {
	m := c.Bytes(a, int(n))
	return libpie.Reject(m.Len())
}

type piece struct {
	m  libpie.Mem
	id int32
}

func cut(c *libpie.Call, a libpie.Addr, n uint8) piece {
	p := piece{id: int32(n)}
	if n > 4 {
		p.m = c.Bytes(a, int(n)-4)
	}
	return p
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func MemInStruct(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	p := cut(c, a, n)
	return libpie.Reject(int32(p.m.Count('a')) + p.id)
}

//pie:guard exe=x func=example.com/x.f onfault=reject:-77 onfuel=pass
func Strings(c *libpie.Call, s, t libpie.GoString) libpie.Verdict {
	if s.Len > 64 {
		return libpie.Reject(s.Len)
	}
	return libpie.Reject(c.Bytes(s.Ptr, s.Len).EqualMem(c.Bytes(t.Ptr, t.Len)))
}

//pie:guard exe=x func=example.com/x.f onfault=reject:-77 onfuel=reject:-78
func SliceArgs(c *libpie.Call, on bool, b libpie.GoSlice) libpie.Verdict {
	if !on || b.Len > b.Cap {
		return libpie.Pass()
	}
	m := c.Bytes(b.Ptr, b.Len)
	n := 0
	for i := m.Len() - 1; i >= 0 && m.At(i) != ' '; i-- {
		n++
	}
	return libpie.Reject(n)
}

//pie:guard exe=x func=example.com/x.f onfault=reject:-77 onfuel=pass
func ErrorArgs(c *libpie.Call, err libpie.GoError, v libpie.GoInterface) libpie.Verdict {
	if err.Itab == 0 && v.Type != 0 {
		return libpie.Reject(v.Data)
	}
	return libpie.Reject(err.Data ^ v.Type)
}

//pie:guard exe=x func=example.com/x.f onfault=reject:go:1:io.ErrUnexpectedEOF onfuel=pass
func GoResult(c *libpie.Call, a libpie.Addr, n int32) libpie.Verdict {
	if c.Bytes(a, int(n)).Len() > 100 {
		return libpie.RejectGo(libpie.GoVar("io.EOF"))
	}
	return libpie.RejectGo(libpie.Word(n), libpie.Word(a), libpie.GoVar("io.EOF"))
}

//pie:guard exe=x func=example.com/x.f onfault=reject:-77 onfuel=pass
func NineWords(c *libpie.Call, a, b, d, e, f, g, h, i, j int32) libpie.Verdict {
	return libpie.Reject(a ^ b*3 ^ d*5 ^ e*7 ^ f*9 ^ g*11 ^ h*13 ^ i*15 ^ j*17)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func StackArgs(c *libpie.Call, a, b, d, e, f, g, h int32, i uint8, j int64) libpie.Verdict {
	return libpie.Reject(int64(g^h*13) ^ int64(i)*15 ^ j*17 + libpie.Arg[int64](c, 9))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ArgByIndex(c *libpie.Call, a int32) libpie.Verdict {
	if libpie.Arg[bool](c, 1) {
		return libpie.Reject(libpie.Arg[int8](c, 2))
	}
	return libpie.Reject(libpie.At[header](libpie.Arg[libpie.Addr](c, 3)).count + a)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Clock(c *libpie.Call, a int64) libpie.Verdict {
	if c.Now() > a {
		return libpie.Reject(c.Tid())
	}
	return libpie.Reject(c.ReturnAddr() + libpie.Addr(c.Now()))
}

//pie:guard exe=x func=f onfault=reject:errno:ENOMEM:-2 onfuel=pass
func Errnos(c *libpie.Call, h *header, e libpie.Errno) libpie.Verdict {
	if h.kind&1 == 1 {
		return libpie.RejectErrno(libpie.EINVAL, int32(-1))
	}
	return libpie.RejectErrno(e, h.count)
}

//pie:guard exe=x func=f onfault=reject onfuel=pass
func Floats(c *libpie.Call, h *header) libpie.Verdict {
	if h.kind > 128 {
		return libpie.RejectFloat(1.0 / 3)
	}
	return libpie.RejectFloat(-0.5)
}

//pie:guard exe=x func=f onfault=reject:null onfuel=pass
func Logs(c *libpie.Call, a uint32, h *header) libpie.Verdict {
	if a > 1000 {
		return libpie.Log(a)
	}
	return libpie.Log(uint32(h.kind))
}

//pie:guard exe=x func=f onfault=pass onfuel=pass
func Codes(c *libpie.Call, a uint32, h *header) libpie.Verdict {
	if a > 1000 {
		return libpie.Reject(int32(-1)).WithCode(7)
	}
	return libpie.Pass().WithCode(uint32(h.size))
}

//pie:guard exe=x func=f onfault=pass onfuel=pass
func Void(c *libpie.Call, a int32) libpie.Verdict {
	if a < 0 {
		return libpie.RejectVoid()
	}
	return libpie.RejectGo()
}

//pie:guard exe=x func=f onfault=pass onfuel=pass
func Pointer(c *libpie.Call, h *header) libpie.Verdict {
	if h == nil {
		return libpie.RejectPtr(0)
	}
	return libpie.RejectPtr(libpie.AddrOf(h))
}
