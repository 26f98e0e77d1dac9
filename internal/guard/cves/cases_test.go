package cves

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// to is memory that an argument, or a word of other memory, points to: numbers in
// the order of bytes of the machine, strings and bytes as they are, and further memory.
type to []any

// at is the n-th piece of memory that a call was given, from 0, once more: so that the
// same object is met again.
type at int

// end is where the n-th last piece of memory ends, the last being 1.
type end int

// gap is so many bytes of 0.
type gap int

// memory is what the pieces of a case lie in. Whatever is not in one cannot be read.
type memory struct {
	pieces [][]byte
	placed []uint64 // of the pieces that calls were given, by their order
}

const pieceSpace = 1 << 28 // from one piece to the next

func (m *memory) put(b []byte) uint64 {
	m.pieces = append(m.pieces, b)
	return uint64(len(m.pieces)) * pieceSpace
}

func (m *memory) piece(addr uint64, n int) []byte {
	i, off := addr/pieceSpace, addr%pieceSpace
	if i == 0 || i > uint64(len(m.pieces)) || off+uint64(n) > uint64(len(m.pieces[i-1])) {
		return nil
	}
	return m.pieces[i-1][off : off+uint64(n)]
}

func (m *memory) Read(addr uint64, p []byte) bool  { return len(p) == copy(p, m.piece(addr, len(p))) }
func (m *memory) Write(addr uint64, p []byte) bool { return len(p) == copy(m.piece(addr, len(p)), p) }

// word is x as an argument or a field of pointer size.
func (m *memory) word(x any) uint64 {
	switch x := x.(type) {
	case int:
		return uint64(x)
	case at:
		return m.placed[x]
	case end:
		i := len(m.pieces) + 1 - int(x)
		return uint64(i)*pieceSpace + uint64(len(m.pieces[i-1]))
	case string:
		return m.put(append([]byte(x), 0))
	case to:
		return m.put(m.bytes(x))
	}
	panic(fmt.Sprintf("a case has a %T", x))
}

func (m *memory) bytes(x to) (b []byte) {
	for _, e := range x {
		switch e := e.(type) {
		case string:
			b = append(b, e...)
		case gap:
			b = append(b, make([]byte, e)...)
		case uint8:
			b = append(b, e)
		case uint16:
			b = binary.LittleEndian.AppendUint16(b, e)
		case int32:
			b = binary.LittleEndian.AppendUint32(b, uint32(e))
		default:
			b = binary.LittleEndian.AppendUint64(b, m.word(e))
		}
	}
	return b
}

// call is a call of the function that a guard of the prepatch guards, and what becomes of
// it. The calls of a prepatch are made one after another: state stays. Where the name of a
// call says unreadable, the guard cannot read what it needs; else it comes to a verdict of
// its own.
type call struct {
	name   string
	guard  string
	args   to
	reject bool
}

func TestCases(t *testing.T) {
	for file, calls := range cases() {
		t.Run(strings.TrimSuffix(file, ".go"), func(t *testing.T) {
			units := compiled(t, file)
			state, rejects, passes := make([]byte, bpf.MaxState), 0, 0
			m := &memory{}
			for _, c := range calls {
				verdict := decide(t, units, m, state, c)
				if rejected := verdict.Kind() == bpf.VerdictReject; rejected != c.reject {
					t.Errorf("%s, %s: rejected %v", c.guard, c.name, rejected)
				}
				if c.reject {
					rejects++
				} else {
					passes++
				}
			}
			if rejects == 0 || passes == 0 {
				t.Errorf("%d calls to be rejected, %d to pass", rejects, passes)
			}
		})
	}
}

// unit is a verified guard.
type unit struct {
	*bpf.Unit
	charge func(pc int) uint32
	goABI  bool
}

// compiled returns the guards of a prepatch, verified.
func compiled(t *testing.T, file string) map[string]unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	p := compileFiles(t, map[string][]byte{file: text})
	units := map[string]unit{}
	for i, program := range verifyGuards(t, p) {
		g := p.Guards[i]
		units[g.Name] = unit{program.Unit(), program.Fuel, g.ABI == source.GoInternal}
	}
	return units
}

// stackWords are the arguments that a C function is given on the stack.
func stackWords(f bpf.Frame) (words to) {
	for _, w := range f.Args[6:] {
		words = append(words, int(w))
	}
	return words
}

// decide runs a guard on a call as a process would have it, fuel included.
func decide(t *testing.T, units map[string]unit, m *memory, state []byte, c call) bpf.Verdict {
	t.Helper()
	u, ok := units[c.guard]
	if !ok {
		t.Fatalf("there is no guard %s", c.guard)
	}
	var f bpf.Frame
	for i, a := range c.args {
		f.Args[i] = m.word(a)
		if _, isMemory := a.(to); isMemory {
			m.placed = append(m.placed, f.Args[i])
		}
	}
	if !u.goABI {
		f.SP = m.put(m.bytes(append(to{0}, stackWords(f)...)))
	}
	in := bpf.Interp{Unit: u.Unit, Memory: m, State: state[:u.State], Symbols: make([]uint64, len(u.Symbols)), Charge: u.charge, Thread: 1, Tid: 1, Now: 1e9}
	for i := range in.Symbols {
		in.Symbols[i] = m.put(make([]byte, 16))
	}
	in.Call = func(f bpf.Symbol, args [bpf.InvokeArgs]uint64) (bpf.Returned, bool) {
		if f.Name == "iniparser_getstring" { // of a dictionary whose value is the key's first word
			return bpf.Returned{Word: firstWord(m, args[1])}, true
		}
		return bpf.Returned{Word: isPrime(m, args[0])}, true
	}
	r, err := in.Run(f)
	if err != nil {
		t.Fatalf("%s, %s: %v", c.guard, c.name, err)
	}
	if r.OutOfFuel || r.Faulted != strings.Contains(c.name, "unreadable") {
		t.Errorf("%s, %s: faulted %v, out of fuel %v", c.guard, c.name, r.Faulted, r.OutOfFuel)
	}
	return r.Verdict
}

func firstWord(m *memory, addr uint64) uint64 {
	var w [8]byte
	m.Read(addr, w[:])
	return binary.LittleEndian.Uint64(w[:])
}

// isPrime is what OpenSSL's BN_is_prime_ex says of a small BIGNUM.
func isPrime(m *memory, bignum uint64) uint64 {
	var d, n [8]byte
	if !m.Read(bignum, d[:]) || !m.Read(binary.LittleEndian.Uint64(d[:]), n[:]) {
		return ^uint64(0)
	}
	v := binary.LittleEndian.Uint64(n[:])
	for k := uint64(2); k*k <= v; k++ {
		if v%k == 0 {
			return 0
		}
	}
	return 1
}
