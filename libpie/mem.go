package libpie

import "github.com/patch-integration-engine/pie/libpie/internal/native"

// Mem is a piece of the target's memory. Its methods read it, byte after byte
// from its start, and no further than the answer needs; a byte that cannot be
// read is a fault. It is read anew each time: another thread may have changed it
// in between, and may change it before the guarded function reads it.
type Mem struct {
	a   Addr
	n   int
	env Environment
}

// Addr returns where m starts.
func (m Mem) Addr() Addr { return m.a }

// Len returns the length of m in bytes.
func (m Mem) Len() int { return m.n }

// At returns byte i. An i outside m is a fault.
func (m Mem) At(i int) byte {
	if i < 0 || i >= m.n {
		m.env.Fault("index out of range")
	}
	return native.Byte(uint64(m.a) + uint64(i))
}

// Slice returns m[i:j]. Like a Go slice expression it faults unless
// 0 ≤ i ≤ j ≤ Len.
func (m Mem) Slice(i, j int) Mem {
	if i < 0 || i > j || j > m.n {
		m.env.Fault("slice bounds out of range")
	}
	return Mem{a: m.a + Addr(i), n: j - i, env: m.env}
}

// Index returns the index of the first b in m, −1 if there is none.
func (m Mem) Index(b byte) int {
	for i := 0; i < m.n; i++ {
		if native.Byte(uint64(m.a)+uint64(i)) == b {
			m.env.Spend(i + 1)
			return i
		}
	}
	m.env.Spend(m.n)
	return -1
}

// Count returns how many bytes of m are b.
func (m Mem) Count(b byte) int {
	count := 0
	for i := 0; i < m.n; i++ {
		if native.Byte(uint64(m.a)+uint64(i)) == b {
			count++
		}
	}
	m.env.Spend(m.n)
	return count
}

// Find returns the index of the first s in m, −1 if there is none. s is a constant.
func (m Mem) Find(s string) int {
	if s == "" {
		return 0
	}
	for i := 0; i+len(s) <= m.n; i++ {
		k := 0
		for k < len(s) && native.Byte(uint64(m.a)+uint64(i+k)) == s[k] {
			k++
		}
		if k == len(s) {
			m.env.Spend(i + k)
			return i
		}
	}
	m.env.Spend(m.n)
	return -1
}

// Contains reports whether s is in m. s is a constant.
func (m Mem) Contains(s string) bool { return m.Find(s) >= 0 }

// Equal reports whether m is s. s is a constant.
func (m Mem) Equal(s string) bool { return m.n == len(s) && m.same(0, s) }

// HasPrefix reports whether m begins with s. s is a constant.
func (m Mem) HasPrefix(s string) bool { return m.n >= len(s) && m.same(0, s) }

// HasSuffix reports whether m ends with s. s is a constant.
func (m Mem) HasSuffix(s string) bool { return m.n >= len(s) && m.same(m.n-len(s), s) }

// EqualMem reports whether m and o have the same length and bytes.
func (m Mem) EqualMem(o Mem) bool {
	if m.n != o.n {
		return false
	}
	for i := 0; i < m.n; i++ {
		if native.Byte(uint64(m.a)+uint64(i)) != native.Byte(uint64(o.a)+uint64(i)) {
			m.env.Spend(i + 1)
			return false
		}
	}
	m.env.Spend(m.n)
	return true
}

// same reports whether s stands at offset at, which must leave room for it.
func (m Mem) same(at int, s string) bool {
	for i := 0; i < len(s); i++ {
		if native.Byte(uint64(m.a)+uint64(at+i)) != s[i] {
			m.env.Spend(i + 1)
			return false
		}
	}
	m.env.Spend(len(s))
	return true
}
