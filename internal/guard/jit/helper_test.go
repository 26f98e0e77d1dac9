package jit

import (
	"fmt"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// helperGuard rejects with twice the result of a helper on the words of the call:
// it is called twice, so that what the first call paid shows in the second.
func helperGuard(t testing.TB, helper string) *bpf.Unit {
	t.Helper()
	call := `
		mov %r1, %r6
		mov %r2, %r7
		mov %r3, %r8
		ldxdw %r4, [%r10-8]
		call ` + helper
	u := unit(t, `
		mov %r9, %r1
		ldxdw %r6, [%r1+0]
		ldxdw %r7, [%r1+8]
		ldxdw %r8, [%r1+16]
		ldxdw %r4, [%r1+24]
		stxdw [%r10-8], %r4`+call+`
		stxdw [%r10-16], %r0`+call+`
		ldxdw %r2, [%r10-16]
		add %r0, %r2
		mov %r1, %r9
		stxdw [%r1+128], %r0
		mov %r0, 0x101
		exit
		stdw [%r1+128], -7
		mov %r0, 0x101
		exit
		stdw [%r1+128], -8
		mov %r0, 0x101
		exit`, 0, 0)
	u.OnFault, u.OnFuel = len(u.Insns)-6, len(u.Insns)-3
	return u
}

// helperCall is one call of a helper on four words.
type helperCall [4]uint64

// both runs a helper in the interpreter and as machine code and compares. The
// code is placed already.
func (m *machine) both(u *bpf.Unit, mem *targetMemory, call helperCall) bpf.Result {
	m.t.Helper()
	f := bpf.Frame{}
	in := filled(8)
	for i, w := range call {
		f.Args[i] = w
		in.GPR[sysV.args[i]] = w
	}
	want, err := (&bpf.Interp{Unit: u, Memory: mem}).Run(f)
	if err != nil {
		m.t.Fatal(err)
	}
	m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
	after := *in
	after.GPR[amd64.RAX] = want.Words[0]
	after.GPR[amd64.RSP] += 8
	if _, out := m.call(codeAt, in); *out != after {
		m.t.Errorf("%s%#x: rax %#x, want %#x; other registers as before: %t",
			u.Name, call, out.GPR[amd64.RAX], want.Words[0], equalBut(out, &after, amd64.RAX))
	}
	return want
}

func equalBut(x, y *cpu, r amd64.Reg) bool {
	a, b := *x, *y
	a.GPR[r], b.GPR[r] = 0, 0
	return a == b
}

func (m *machine) placeHelper(u *bpf.Unit, mode FaultMode) {
	m.t.Helper()
	l := m.layout()
	l.Faults = mode
	c := compileUnit(m.t, guess{u}, Site{}, l)
	m.place(c, l, ModeEnforce)
	m.setTable(c.Faults)
}

// TestHelperEdges: every alignment and small length, in memory where all around
// the range is what is sought, so that one byte too many or too few shows.
func TestHelperEdges(t *testing.T) {
	m := newMachine(t)
	m.installHandler(nil, oldDefault, 0)
	base := uint64(dataAt) + 0x1000
	mem := &targetMemory{data: make([]byte, dataLen)}
	for i := range mem.data {
		mem.data[i] = 'x'
	}
	m.poke(dataAt, mem.data)
	for mode := Table; mode <= Copy; mode++ {
		for _, helper := range []string{"count", "index", "strlen", "find", "equal"} {
			u := helperGuard(t, helper)
			u.Name = fmt.Sprintf("mode %d, %s", mode, helper)
			m.placeHelper(u, mode)
			for i := range uint64(16) {
				lengths := []uint64{0, 1, 2, 14, 15, 16, 17, 31, 32, 33, 47}
				if mode != Table {
					lengths = []uint64{1, 15, 16, 33}
				}
				for _, n := range lengths {
					m.helperEdge(u, mem, helper, base+i-8, n)
				}
			}
		}
	}
}

// helperEdge puts what a helper looks for just before, at and after the end of a
// range.
func (m *machine) helperEdge(u *bpf.Unit, mem *targetMemory, helper string, at, n uint64) {
	m.t.Helper()
	off := at - uint64(dataAt)
	set := func(from, to uint64, b byte) {
		for i := from; i < to; i++ {
			mem.data[i] = b
		}
		m.poke(dataAt.Add(int64(from)), mem.data[from:to])
	}
	defer set(off, off+n+1, 'x')
	switch helper {
	case "count":
		m.both(u, mem, helperCall{at, n, 'x'})
	case "index", "strlen":
		set(off, off+n, 'a') // the byte sought stands on both sides
		sought := uint64('x')
		if helper == "strlen" {
			set(off+n, off+n+1, 0)
		}
		m.both(u, mem, helperCall{at, n, sought})
		m.both(u, mem, helperCall{at, n + 1, sought})
	case "find": // the needle ends with the range, or a byte behind it
		needle := uint64(dataAt) + 0x2003
		set(off, off+n, 'a')
		m.both(u, mem, helperCall{at, n + 1, needle, 1})
		m.both(u, mem, helperCall{at, n, needle, 1})
		m.both(u, mem, helperCall{at - 3, n + 3, needle, 3})
		m.both(u, mem, helperCall{at - 3, n + 3, needle, 4})
	case "equal":
		other := uint64(dataAt) + 0x2005
		m.both(u, mem, helperCall{at, n, other, n})
		set(off+n, off+n+1, 'y')
		m.both(u, mem, helperCall{at, n, other, n})
		m.both(u, mem, helperCall{at, n + 1, other, n + 1})
	}
}

// TestHelperHole: bytes behind those that decide are not read: memory may end
// there.
func TestHelperHole(t *testing.T) {
	m := newMachine(t)
	m.installHandler(nil, oldDefault, 0)
	mem := &targetMemory{data: make([]byte, dataLen)} // zeros, and nothing behind them
	m.poke(dataAt, mem.data)
	end, other := uint64(dataAt)+dataLen, uint64(dataAt)+0x1003
	last := uint64(dataLen - 1)
	mem.data[last] = 'z'
	m.poke(dataAt.Add(int64(last)), mem.data[last:])
	for mode := Table; mode <= Copy; mode++ {
		for _, helper := range []string{"equal", "index", "strlen", "count", "find"} {
			u := helperGuard(t, helper)
			u.Name = fmt.Sprintf("mode %d, %s", mode, helper)
			m.placeHelper(u, mode)
			for k := uint64(1); k < 20; k++ {
				for _, n := range []uint64{k, k + 1, 64} {
					switch helper {
					case "equal": // they differ in the last byte there is
						m.both(u, mem, helperCall{end - k, n, other, n})
						m.both(u, mem, helperCall{other, n, end - k, n})
					case "find":
						m.both(u, mem, helperCall{end - k, n, end - 1, 1})
						m.both(u, mem, helperCall{other, n, end - k, k})
						m.both(u, mem, helperCall{end - k, n, end - 1, 2})
					default:
						m.both(u, mem, helperCall{end - k, n, 'z'})
					}
				}
			}
		}
	}
}

// TestFuelExact: a call succeeds with exactly the fuel it needs, and ends by its
// onfuel with a unit less.
func TestFuelExact(t *testing.T) {
	m := newMachine(t)
	mem := &targetMemory{data: make([]byte, dataLen)}
	m.poke(dataAt, mem.data) // zeros, and two words further on
	copy(mem.data[0x800:], "needle")
	m.poke(dataAt+0x800, mem.data[0x800:0x806])
	at := uint64(dataAt) + 3
	for _, c := range []struct {
		helper string
		call   helperCall
	}{
		{"count", helperCall{at, 0, 1}}, {"count", helperCall{at, 1, 1}}, {"count", helperCall{at, 63, 1}},
		{"count", helperCall{at, 64, 1}}, {"count", helperCall{at, 65, 1}}, {"count", helperCall{at, 640, 1}},
		{"index", helperCall{at, 64, 1}}, {"index", helperCall{at, 129, 1}}, {"index", helperCall{at, 0x1000, 'n'}},
		{"strlen", helperCall{at + 0x7fd, 100}}, {"strlen", helperCall{at, 5}}, {"strlen", helperCall{at, 0}},
		{"find", helperCall{at, 64, uint64(dataAt) + 0x800, 1}}, {"find", helperCall{at, 69, uint64(dataAt) + 0x800, 6}},
		{"find", helperCall{at, 70, uint64(dataAt) + 0x800, 6}}, {"find", helperCall{at, 0x1000, uint64(dataAt) + 0x800, 6}},
		{"find", helperCall{at, 300, at, 200}}, {"find", helperCall{at, 5, at, 6}},
		{"find", helperCall{at + 0x7f0, 30, at + 0x7fc, 4}},
		{"equal", helperCall{at, 0, at, 0}}, {"equal", helperCall{at, 64, at + 5, 64}}, {"equal", helperCall{at, 65, at + 5, 65}},
		{"equal", helperCall{at + 0x700, 300, at, 300}}, {"equal", helperCall{at, 5, at, 6}},
	} {
		u := helperGuard(t, c.helper)
		used, err := (&bpf.Interp{Unit: u, Memory: mem}).Run(bpf.Frame{Args: [bpf.FrameArgs]uint64{c.call[0], c.call[1], c.call[2], c.call[3]}})
		if err != nil || used.OutOfFuel || used.Faulted {
			t.Fatalf("%s%#x: %+v %v", c.helper, c.call, used, err)
		}
		for fuel := max(used.Fuel, 3) - 2; fuel <= used.Fuel+1; fuel++ {
			u.Name, u.Fuel = fmt.Sprintf("fuel %d, %s", fuel, c.helper), fuel
			for mode := Probe; mode <= Copy; mode++ {
				m.placeHelper(u, mode)
				m.both(u, mem, c.call)
			}
		}
	}
}

// TestFuelLoop: so do loops.
func TestFuelLoop(t *testing.T) {
	m := newMachine(t)
	u := unit(t, `
		ldxdw %r2, [%r1+0]
		mov %r3, 0
	again:
		add %r3, 3
		sub %r2, 1
		jne %r2, 0, again
		stxdw [%r1+128], %r3
		mov %r0, 0x101
		exit
		stdw [%r1+128], -7
		mov %r0, 0x101
		exit
		stdw [%r1+128], -8
		mov %r0, 0x101
		exit`, 8, 11)
	u.Fuel = 10
	m.placeHelper(u, Probe)
	for rounds := uint64(1); rounds < 14; rounds++ {
		if res := m.both(u, &targetMemory{}, helperCall{rounds}); res.OutOfFuel != (rounds > 11) {
			t.Errorf("%d rounds: %+v", rounds, res)
		}
	}
}
