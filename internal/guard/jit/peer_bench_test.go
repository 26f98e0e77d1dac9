package jit

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Guards in Go, each beside one that does the same in testdata/peers.c; all pass. n is
// 256, a and b are texts of so many bytes with nothing in them that is looked for.
var peerGuards = []struct {
	name string
	peer int // index into peers
	body string
}{
	{"register", 0, "if n > 1024 || a == 0 { return libpie.Reject(int32(-1)) }"},
	{"field", 1, "if *libpie.At[uint32](a + 16) > 1<<31 { return libpie.Reject(int32(-1)) }"},
	{"count", 2, "if c.Bytes(a, int(n)).Count('*') > 10 { return libpie.Reject(int32(-1)) }"},
	{"find", 3, "if c.Bytes(a, int(n)).Index('*') >= 0 { return libpie.Reject(int32(-1)) }"},
	{"length", 4, "if s, _ := c.CStr(a, 4096); s.Len() > 1000 { return libpie.Reject(int32(-1)) }"},
	{"compare", 5, "if !c.Bytes(a, int(n)).EqualMem(c.Bytes(b, int(n))) { return libpie.Reject(int32(-1)) }"},
	{"substring", 6, `if c.Bytes(a, int(n)).Contains("../") { return libpie.Reject(int32(-1)) }`},
	{"find/libc", 7, "if c.Bytes(a, int(n)).Index('*') >= 0 { return libpie.Reject(int32(-1)) }"},
	{"length/libc", 8, "if s, _ := c.CStr(a, 4096); s.Len() > 1000 { return libpie.Reject(int32(-1)) }"},
	{"compare/libc", 9, "if !c.Bytes(a, int(n)).EqualMem(c.Bytes(b, int(n))) { return libpie.Reject(int32(-1)) }"},
	{"substring/libc", 10, `if c.Bytes(a, int(n)).Contains("../") { return libpie.Reject(int32(-1)) }`},
	{"count/loop", 2, `k := 0
	for i := range n {
		if *libpie.At[uint8](a + libpie.Addr(i)) == '*' {
			k++
		}
	}
	if k > 10 { return libpie.Reject(int32(-1)) }`},
	{"count/loop-at", 2, `k, m := 0, c.Bytes(a, int(n))
	for i := range m.Len() {
		if m.At(i) == '*' {
			k++
		}
	}
	if k > 10 { return libpie.Reject(int32(-1)) }`},
	{"find/loop", 3, `for i := range n {
		if *libpie.At[uint8](a + libpie.Addr(i)) == '*' {
			return libpie.Reject(int32(-1))
		}
	}`},
	{"compare/loop", 5, `for i := range libpie.Addr(n) {
		if *libpie.At[uint8](a + i) != *libpie.At[uint8](b + i) {
			return libpie.Reject(int32(-1))
		}
	}`},
}

func peerGuard(t testing.TB, body string) *verify.Program {
	t.Helper()
	return fromGo(t, `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id BENCH

//pie:guard exe=x func=f onfault=reject:-1 onfuel=reject:-1
func G(c *libpie.Call, a libpie.Addr, n int32, b libpie.Addr) libpie.Verdict {
	`+body+`
	return libpie.Pass()
}
`)
}

// placePeer leads calls of the function through a plain detour to a C function, and on when it
// answers 0: the registers that it may change and the function reads are kept.
func (m *machine) placePeer(peer address.Addr) {
	kept := []amd64.Reg{amd64.RDI, amd64.RSI, amd64.RDX, amd64.RCX, amd64.R8, amd64.R9, amd64.RAX}
	m.patch(detourAt)
	m.write(detourAt+0x80, protRead|protExec, binary.LittleEndian.AppendUint64(nil, uint64(peer)))
	m.assemble(detourAt, func(a *amd64.Asm) {
		for _, r := range kept { // an odd number: the stack is aligned for the call
			a.Push(r)
		}
		a.CallMem(amd64.Abs(detourAt + 0x80))
		a.Test(4, amd64.RAX, amd64.RAX)
		for i := range kept {
			a.Pop(kept[len(kept)-1-i])
		}
		out := a.Label()
		a.Jcc(amd64.CondNE, out)
		prologue(a)
		a.JmpTo(patchAt + 6)
		a.Bind(out)
		a.MovImm(amd64.RAX, -1)
		a.Ret()
	})
}

const (
	leftText  = dataAt + 7
	rightText = dataAt + 0x200 + 3
)

// texts lays out what the guards look at.
func (m *machine) texts() {
	text := append([]byte(strings.Repeat("some text. ", 24)[:256]), 0)
	m.poke(leftText, text)
	m.poke(rightText, text)
}

// BenchmarkPeers times each guard beside the bare function, and beside a guard compiled
// by gcc -O2; ratio is of the times of whole calls.
func BenchmarkPeers(b *testing.B) {
	m := newMachine(b)
	m.assemble(bareAt, guarded)
	m.texts()
	list := m.ask(cmdPeers, 0, 0)
	for _, g := range peerGuards {
		b.Run(g.name, func(b *testing.B) {
			m.t = b
			l := m.layout()
			l.After = inline
			c, err := Compile(peerGuard(b, g.body), Site{Free: amd64.Set(amd64.RAX, amd64.R10, amd64.R11)}, l)
			if err != nil {
				b.Fatal(err)
			}
			time := func() timing { return m.timeCalls(patchAt, 1, 1_000, uint64(leftText), 256, uint64(rightText)) }
			for b.Loop() {
				m.placePeer(address.Addr(binary.LittleEndian.Uint64(list[8*g.peer:])))
				gcc := time()
				m.place(c, l, ModeEnforce)
				m.patch(l.Code)
				ours := time()
				b.ReportMetric(ours.median-ours.bareMedian, "added-ns")
				b.ReportMetric(gcc.median-gcc.bareMedian, "gcc-added-ns")
				b.ReportMetric(ours.median/gcc.median, "ratio")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// TestPeersPass holds the benchmark to what it says: all guards pass.
func TestPeersPass(t *testing.T) {
	m := newMachine(t)
	m.texts()
	for _, g := range peerGuards {
		l := m.layout()
		c := compileUnit(t, peerGuard(t, g.body), Site{}, l)
		m.place(c, l, ModeEnforce)
		in := filled(8)
		in.GPR[amd64.RDI], in.GPR[amd64.RSI], in.GPR[amd64.RDX] = uint64(leftText), 256, uint64(rightText)
		m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
		if outcome, _ := m.call(l.Code, in); outcome != hasPassed {
			t.Errorf("%s: outcome %d", g.name, outcome)
		}
	}
}
