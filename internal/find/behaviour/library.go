package behaviour

import "github.com/patch-integration-engine/pie/internal/isa/amd64"

// Bounds of what is written out: bytes copied, and bytes looked through.
const (
	maxCopied  = 256
	maxScanned = 1024
)

// spend counts work that is done at once.
func (m *run) spend(bytes uint64) bool {
	m.steps += int(bytes)
	return m.steps < maxSteps
}

// writtenOut does what compilers may write out in place of a call. It is false where the call
// is to be seen as one.
func (m *run) writtenOut(name string) bool {
	to, from, n := m.regs[amd64.RDI], m.regs[amd64.RSI], m.regs[amd64.RDX]
	switch name {
	case "memcpy", "memmove", "mempcpy":
		return m.copied(name, to, from, n)
	case "memset":
		return m.filled(to, from, n)
	case "strlen":
		end, ok := m.find(to, 0, maxScanned)
		m.regs[amd64.RAX] = end - to
		return ok
	case "strchr":
		return m.strchr(to, from)
	case "strcmp":
		return m.compared(to, from, maxScanned, true)
	case "strncmp":
		return m.compared(to, from, n, true)
	case "memcmp", "bcmp":
		return m.compared(to, from, n, false)
	}
	return false
}

func (m *run) copied(name string, to, from, n uint64) bool {
	if n > maxCopied || !m.spend(n) {
		return false
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.load(from+uint64(i), 1))
	}
	for i := range b {
		m.store(to+uint64(i), 1, uint64(b[i]))
	}
	m.regs[amd64.RAX] = to
	if name == "mempcpy" {
		m.regs[amd64.RAX] += n
	}
	return true
}

func (m *run) filled(to, with, n uint64) bool {
	if n > maxCopied || !m.spend(n) {
		return false
	}
	for i := range n {
		m.store(to+i, 1, with)
	}
	m.regs[amd64.RAX] = to
	return true
}

// find returns where a byte is, among n at most.
func (m *run) find(at, c, n uint64) (uint64, bool) {
	for i := range n {
		if !m.spend(1) {
			break
		}
		if m.load(at+i, 1) == c {
			return at + i, true
		}
	}
	return 0, false
}

func (m *run) strchr(at, c uint64) bool {
	for i := range uint64(maxScanned) {
		if !m.spend(1) {
			break
		}
		switch v := m.load(at+i, 1); {
		case v == c&0xff:
			m.regs[amd64.RAX] = at + i
			return true
		case v == 0:
			m.regs[amd64.RAX] = 0
			return true
		}
	}
	return false
}

// compared is strcmp or memcmp of n bytes at most. Only the sign of what they return counts.
func (m *run) compared(a, b, n uint64, text bool) bool {
	m.regs[amd64.RAX] = 0
	for i := range min(n, maxScanned) {
		if !m.spend(1) {
			return false
		}
		x, y := m.load(a+i, 1), m.load(b+i, 1)
		switch {
		case x < y:
			m.regs[amd64.RAX] = 0xffffffff
			return true
		case x > y:
			m.regs[amd64.RAX] = 1
			return true
		case x == 0 && text:
			return true
		}
	}
	return true
}
