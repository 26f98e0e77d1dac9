package libpie

import (
	"math/bits"

	"github.com/patch-integration-engine/pie/libpie/internal/native"
)

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

// Little16 returns bytes i and i+1 as a number, the first the lowest. Like At it faults
// where a byte is outside m; so do the others of its kind.
func (m Mem) Little16(i int) uint16 { return uint16(m.word(i, 2)) }

// Little32 returns the four bytes from i on, the first the lowest.
func (m Mem) Little32(i int) uint32 { return uint32(m.word(i, 4)) }

// Little64 returns the eight bytes from i on, the first the lowest.
func (m Mem) Little64(i int) uint64 { return m.word(i, 8) }

// Big16 returns bytes i and i+1 as a number, the first the highest, as protocols have it.
func (m Mem) Big16(i int) uint16 { return bits.ReverseBytes16(m.Little16(i)) }

// Big32 returns the four bytes from i on, the first the highest.
func (m Mem) Big32(i int) uint32 { return bits.ReverseBytes32(m.Little32(i)) }

// Big64 returns the eight bytes from i on, the first the highest.
func (m Mem) Big64(i int) uint64 { return bits.ReverseBytes64(m.Little64(i)) }

func (m Mem) word(i, size int) uint64 {
	if i < 0 || i >= m.n || size > m.n-i {
		m.env.Fault("index out of range")
	}
	return native.Load(uint64(m.a)+uint64(i), size)
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
			m.spend(i + 1)
			return i
		}
	}
	m.spend(m.n)
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
	m.spend(m.n)
	return count
}

// Find returns the index of the first s in m, −1 if there is none. s is a constant, or
// chosen among constants.
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
			m.spend(i + k)
			return i
		}
	}
	m.spend(m.n)
	return -1
}

// Contains reports whether s is in m. s is as for Find.
func (m Mem) Contains(s string) bool { return m.Find(s) >= 0 }

// Equal reports whether m is s, as for Find.
func (m Mem) Equal(s string) bool { return m.n == len(s) && m.same(0, s) }

// HasPrefix reports whether m begins with s, as for Find.
func (m Mem) HasPrefix(s string) bool { return m.n >= len(s) && m.same(0, s) }

// HasSuffix reports whether m ends with s, as for Find.
func (m Mem) HasSuffix(s string) bool { return m.n >= len(s) && m.same(m.n-len(s), s) }

// EqualMem reports whether m and o have the same length and bytes.
func (m Mem) EqualMem(o Mem) bool {
	if m.n != o.n {
		return false
	}
	for i := 0; i < m.n; i++ {
		if native.Byte(uint64(m.a)+uint64(i)) != native.Byte(uint64(o.a)+uint64(i)) {
			m.spend(i + 1)
			return false
		}
	}
	m.spend(m.n)
	return true
}

// spend accounts for bytes looked at; the zero Mem has no environment and no bytes.
func (m Mem) spend(bytes int) {
	if m.env != nil {
		m.env.Spend(bytes)
	}
}

// same reports whether s stands at offset at, which must leave room for it. Up
// to 32 bytes are read in pieces of 8, 4, 2 and 1 bytes, each only if those
// before it agreed, as a compiled guard does it; longer ones byte after byte.
func (m Mem) same(at int, s string) bool {
	for i := 0; i < len(s); {
		size := 1
		for len(s) <= 32 && size < 8 && 2*size <= len(s)-i {
			size *= 2
		}
		got := native.Load(uint64(m.a)+uint64(at+i), size)
		for k := range size {
			if byte(got>>(8*k)) != s[i+k] {
				m.spend(i + size)
				return false
			}
		}
		i += size
	}
	m.spend(len(s))
	return true
}
