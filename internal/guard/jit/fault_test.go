package jit

import (
	"encoding/binary"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Where the tests of table mode put the handler, its table and its fault block.
const (
	handlerAt = codeAt + 0x10000
	tableAt   = codeAt + 0x12000
	blockAt   = stateAt + 0x800
)

// Dispositions a program may have had.
const (
	oldDefault = iota
	oldIgnore
	oldPlain
	oldSiginfo
)

// installHandler writes the handler and its table, and installs it in place of
// an old disposition.
func (m *machine) installHandler(ranges []FaultRange, old, flags uint32) {
	m.t.Helper()
	code, err := Handler(HandlerLayout{Code: handlerAt, Faults: blockAt})
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(handlerAt, protRead|protExec, code)
	m.setTable(ranges)
	m.ask(cmdHandler, 0, handlerAt, uint64(blockAt), old, flags)
}

func (m *machine) setTable(ranges []FaultRange) {
	m.t.Helper()
	table, err := FaultTable(ranges)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(tableAt, protRead|protExec, table)
	m.poke64(blockAt+FaultsTable, uint64(tableAt))
	m.poke64(blockAt+FaultsCount, uint64(len(ranges)))
}

// readWord rejects with the word argument 0 points to; a fault rejects with −7.
const readWord = `
	ldxdw %r2, [%r1+0]
	ldxdw %r3, [%r2+16]
	stxdw [%r1+128], %r3
	mov %r0, 0x101
	exit
	mov %r2, -7
	stxdw [%r1+128], %r2
	mov %r0, 0x101
	exit
	mov %r0, 0
	exit
`

// lengthOf rejects with the length of the string argument 0, at most argument 1.
const lengthOf = `
	ldxdw %r6, [%r1+0]
	ldxdw %r2, [%r1+8]
	mov %r9, %r1
	mov %r1, %r6
	call strlen
	mov %r1, %r9
	stxdw [%r1+128], %r0
	mov %r0, 0x101
	exit
	mov %r2, -7
	stxdw [%r1+128], %r2
	mov %r0, 0x101
	exit
	mov %r0, 0
	exit
`

func TestFaults(t *testing.T) {
	const (
		none  = dataAt + 0x10000 // PROT_NONE
		hole  = dataAt + 0x20000 // nothing
		short = dataAt + 0x30000 // two pages of a file of one
		fine  = dataAt + 0x3000
	)
	minus7 := ^uint64(6)
	for _, mode := range []FaultMode{Table, Probe, Copy} {
		for _, free := range []amd64.RegSet{0, amd64.Set(amd64.RAX, amd64.R8, amd64.R9, amd64.R10, amd64.R11)} {
			m := newMachine(t)
			m.mapAt(none, 0x1000, 0, 0)
			m.mapAt(short, 0x2000, protRead, 1)
			m.poke64(fine+16, 0x1122334455667788)
			m.poke(dataAt+dataLen-6, []byte("abcdef"))
			l := m.layout()
			l.Faults = mode
			m.installHandler(nil, oldDefault, 0)
			for _, c := range []struct {
				name string
				text string
				fail int
				at   address.Addr
				max  uint64
				want uint64
			}{
				{"fine", readWord, 5, fine, 0, 0x1122334455667788},
				{"NULL", readWord, 5, 0, 0, minus7},
				{"below 64 KiB", readWord, 5, 0xffe8, 0, minus7},
				{"unmapped", readWord, 5, hole, 0, minus7},
				{"PROT_NONE", readWord, 5, none, 0, minus7},
				{"last bytes before a hole", readWord, 5, dataAt + dataLen - 20, 0, minus7},
				{"non-canonical", readWord, 5, 0x8000_0000_0000_0000 - 8, 0, minus7},
				{"first above the user half", readWord, 5, 0x8000_0000_0000 - 8, 0, minus7},
				{"kernel", readWord, 5, 0xffff_ffff_8000_0000, 0, minus7},
				{"wraps", readWord, 5, 0xffff_ffff_ffff_fff0, 0, minus7},
				{"past the end of a file", readWord, 5, short + 0x1000, 0, minus7},
				{"in the file", readWord, 5, short + 0x100, 0, 0},
				{"string runs into a hole", lengthOf, 9, dataAt + dataLen - 6, 100, minus7},
				{"string ends before the hole by its limit", lengthOf, 9, dataAt + dataLen - 6, 6, 6},
				{"string of no bytes anywhere", lengthOf, 9, 0, 0, 0},
				{"string at NULL", lengthOf, 9, 0, 1, minus7},
				{"string past the end of a file", lengthOf, 9, short + 0x1000, 5, minus7},
				{"length too large", lengthOf, 9, fine, 1<<24 + 1, minus7},
				{"length negative", lengthOf, 9, fine, ^uint64(0), minus7},
			} {
				code := compileUnit(t, guess{unit(t, c.text, c.fail, c.fail+4)}, Site{Free: free}, l)
				m.place(code, l, ModeEnforce)
				m.setTable(code.Faults)
				in := filled(8)
				in.GPR[amd64.RDI], in.GPR[amd64.RSI] = uint64(c.at), c.max
				m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
				outcome, out := m.call(l.Code, in)
				want := *in
				want.GPR[amd64.RAX] = c.want
				want.GPR[amd64.RSP] += 8
				for _, r := range free.Without(amd64.RAX).Regs() {
					out.GPR[r] = want.GPR[r]
				}
				if outcome != hasReturned || *out != want {
					t.Errorf("mode %d, %s: outcome %d, registers\n%x\nwant\n%x", mode, c.name, outcome, out.GPR, want.GPR)
				}
				faults := uint64(0)
				if c.want == minus7 {
					faults = 1
				}
				if got := m.counter(l, CounterFaults); got != faults {
					t.Errorf("mode %d, %s: %d faults counted, want %d", mode, c.name, got, faults)
				}
			}
		}
	}
}

// TestHandlerForwards: what is not a guard's fault is the program's.
func TestHandlerForwards(t *testing.T) {
	const saResetHand, saOnStack = 0x80000000, 0x08000000
	for _, c := range []struct {
		name       string
		old, flags uint32
		fault      bool // else a signal from outside
		dies       bool
		times      int
		caught     uint64
	}{
		{"fault, default", oldDefault, 0, true, true, 1, 0},
		{"signal, default", oldDefault, 0, false, true, 1, 0},
		{"fault, ignored", oldIgnore, 0, true, true, 1, 0},
		{"signal, ignored", oldIgnore, 0, false, false, 2, 0},
		{"signal, plain handler", oldPlain, 0, false, false, 2, 1},
		{"signal, siginfo handler", oldSiginfo, 0, false, false, 2, 1},
		{"fault, siginfo handler", oldSiginfo, saOnStack, true, false, 2, 1},
		{"fault, siginfo handler once", oldSiginfo, saResetHand, true, true, 2, 1},
		{"signal, plain handler once", oldPlain, saResetHand, false, true, 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.installHandler(nil, c.old, c.flags)
			kind, at := uint32(0), address.Addr(0)
			if c.fault {
				kind, at = 1, dataAt+0x20000
			}
			for i := range c.times {
				answer, err := m.try(cmdRaise, 0, at, kind)
				last := i == c.times-1
				switch {
				case err != nil && !(c.dies && last):
					t.Fatalf("the process ended: %v", err)
				case err == nil && c.dies && last:
					t.Fatal("the process lives")
				case err == nil && binary.LittleEndian.Uint64(answer) != c.caught:
					t.Errorf("caught %d signals, want %d", binary.LittleEndian.Uint64(answer), c.caught)
				case err == nil && c.fault && binary.LittleEndian.Uint64(answer[8:]) != uint64(at):
					t.Errorf("fault address %#x, want %v", binary.LittleEndian.Uint64(answer[8:]), at)
				}
			}
		})
	}
}

// TestTableBounds: a fault just before or behind a range is not the range's, and
// is found among any number of others.
func TestTableBounds(t *testing.T) {
	for _, c := range []struct {
		name  string
		from  int64 // of the range's start, from the load
		n     int64
		more  int // ranges on either side
		lands bool
	}{
		{"exact", 0, 0, 0, true},
		{"ends at the load", -4, 4, 0, false},
		{"starts behind its first byte", 1, 3, 0, false},
		{"starts before it", -4, 5, 0, true},
		{"one on either side", 0, 0, 1, true},
		{"many on either side", 0, 0, 50, true},
		{"many, and none for it", -4, 4, 50, false},
	} {
		m := newMachine(t)
		m.installHandler(nil, oldDefault, 0)
		l := m.layout()
		code := compileUnit(t, guess{unit(t, readWord, 5, 9)}, Site{}, l)
		m.place(code, l, ModeEnforce)
		r := code.Faults[0]
		load := r.Start
		if c.n > 0 {
			r.Start, r.End = load.Add(c.from), load.Add(c.from+c.n)
		}
		ranges := []FaultRange{r}
		for i := range int64(c.more) {
			before, after := load.Add(-16*(i+2)), load.Add(16*(i+2))
			ranges = append(ranges, FaultRange{before, before + 4, before}, FaultRange{after, after + 4, after})
		}
		m.setTable(ranges)
		in := filled(8)
		in.GPR[amd64.RDI] = uint64(dataAt + 0x20000)
		m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
		if _, err := m.try(cmdCall, 0, l.Code, in); (err == nil) != c.lands {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
