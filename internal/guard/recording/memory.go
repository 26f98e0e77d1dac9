package recording

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/recorder"
)

// Memory is the memory that one call read: pieces that do not overlap, ascending,
// each as it was when it was read first. None reaches the end of the address space.
type Memory struct{ pieces []recorder.Read }

// Gather brings reads into order.
func Gather(reads []recorder.Read) *Memory {
	m := &Memory{}
	for _, r := range reads {
		m.add(r)
	}
	return m
}

// Pieces returns the pieces; they belong to m.
func (m *Memory) Pieces() []recorder.Read { return m.pieces }

// after is the index of the first piece that ends behind addr.
func (m *Memory) after(addr uint64) int {
	i, _ := slices.BinarySearchFunc(m.pieces, addr, func(p recorder.Read, a uint64) int {
		if end(p) <= a {
			return -1
		}
		return 1
	})
	return i
}

func end(r recorder.Read) uint64 { return r.Addr + uint64(len(r.Bytes)) }

// add adds the bytes of r that are not known yet.
func (m *Memory) add(r recorder.Read) {
	for len(r.Bytes) > 0 {
		i := m.after(r.Addr)
		fresh := len(r.Bytes)
		if i < len(m.pieces) {
			if p := m.pieces[i]; p.Addr <= r.Addr {
				known := min(end(p)-r.Addr, uint64(len(r.Bytes)))
				r = recorder.Read{Addr: r.Addr + known, Bytes: r.Bytes[known:]}
				continue
			} else if p.Addr-r.Addr < uint64(fresh) {
				fresh = int(p.Addr - r.Addr)
			}
		}
		if i > 0 && end(m.pieces[i-1]) == r.Addr {
			p := &m.pieces[i-1]
			p.Bytes = append(slices.Clip(p.Bytes), r.Bytes[:fresh]...)
		} else {
			m.pieces = slices.Insert(m.pieces, i, recorder.Read{Addr: r.Addr, Bytes: slices.Clone(r.Bytes[:fresh])})
		}
		r = recorder.Read{Addr: r.Addr + uint64(fresh), Bytes: r.Bytes[fresh:]}
	}
}

// Read fills p from addr; false when not every byte was recorded.
func (m *Memory) Read(addr uint64, p []byte) bool {
	for len(p) > 0 {
		known := m.from(addr)
		if len(known) == 0 {
			return false
		}
		n := copy(p, known)
		p, addr = p[n:], addr+uint64(n)
	}
	return true
}

// Write changes the bytes from addr on to p; false, with nothing changed, when not
// every one of them was recorded.
func (m *Memory) Write(addr uint64, p []byte) bool {
	if !m.Read(addr, make([]byte, len(p))) {
		return false
	}
	for len(p) > 0 {
		n := copy(m.from(addr), p)
		p, addr = p[n:], addr+uint64(n)
	}
	return true
}

// from is what is known from addr to the end of its piece.
func (m *Memory) from(addr uint64) []byte {
	i := m.after(addr)
	if i == len(m.pieces) || m.pieces[i].Addr > addr {
		return nil
	}
	return m.pieces[i].Bytes[addr-m.pieces[i].Addr:]
}
