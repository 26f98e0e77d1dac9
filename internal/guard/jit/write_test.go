package jit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// putGuard writes argument 1, or 0x55, with one store to argument 0 and rejects
// with 1; a fault rejects with −7.
func putGuard(t *testing.T, size int, constant bool) *bpf.Unit {
	t.Helper()
	name := map[int]string{1: "b", 2: "h", 4: "w", 8: "dw"}[size]
	store := fmt.Sprintf("ldxdw %%r3, [%%r1+8]\nstx%s [%%r2+4], %%r3", name)
	if constant {
		store = fmt.Sprintf("mov %%r3, 0\nst%s [%%r2+4], 0x55", name)
	}
	u := unit(t, "ldxdw %r2, [%r1+0]\n"+store+`
	stdw [%r1+128], 1
	mov %r0, 0x101
	exit
	stdw [%r1+128], -7
	mov %r0, 0x101
	exit`, 6, 6)
	u.Caps = bpf.CapWrite
	return u
}

// zeroGuard clears argument 1 bytes at argument 0, and rejects as putGuard does;
// without fuel it rejects with −8.
func zeroGuard(t *testing.T) *bpf.Unit {
	t.Helper()
	u := unit(t, `
	mov %r9, %r1
	ldxdw %r1, [%r9+0]
	ldxdw %r2, [%r9+8]
	call zero
	mov %r1, %r9
	stdw [%r1+128], 1
	mov %r0, 0x101
	exit
	stdw [%r1+128], -7
	mov %r0, 0x101
	exit
	stdw [%r1+128], -8
	mov %r0, 0x101
	exit`, 8, 11)
	u.Caps = bpf.CapWrite
	return u
}

func proven(t *testing.T, u *bpf.Unit) *verify.Program {
	t.Helper()
	p, err := verify.Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// callWith calls the guard with two words and returns rax; all other registers
// but those of free must be as before.
func (m *machine) callWith(at address.Addr, free amd64.RegSet, what string, words ...uint64) uint64 {
	m.t.Helper()
	in := filled(8)
	for i, w := range words {
		in.GPR[sysV.args[i]] = w
	}
	m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
	outcome, out := m.call(at, in)
	want := *in
	for _, r := range free.With(amd64.RAX).Regs() {
		want.GPR[r] = out.GPR[r]
	}
	want.GPR[amd64.RSP] += 8
	if outcome != hasReturned || *out != want {
		m.t.Errorf("%s: outcome %d, registers\n%x\nwant\n%x", what, outcome, out.GPR, want.GPR)
	}
	return out.GPR[amd64.RAX]
}

// Where the tests of stores have memory that cannot be written.
const (
	putNone  = dataAt + 0x10000 // PROT_NONE
	putFixed = dataAt + 0x20000 // read-only
	putShort = dataAt + 0x30000 // two pages of a file of one
	putFine  = dataAt + 0x3000
)

// puts are places to store size bytes at, and whether that is done.
func puts(l Layout, c *Code, size int) map[string]struct {
	at uint64
	ok bool
} {
	sp := filled(8).GPR[amd64.RSP]
	type place = struct {
		at uint64
		ok bool
	}
	return map[string]place{
		"fine":                                {uint64(putFine), true},
		"unaligned":                           {uint64(putFine) + 3, true},
		"in the file":                         {uint64(putShort), true},
		"right behind the return address":     {sp + 8, true},
		"NULL":                                {0, false},
		"below 64 KiB":                        {0xff00, false},
		"unmapped":                            {uint64(dataAt) + 0x40000, false},
		"PROT_NONE":                           {uint64(putNone), false},
		"read-only":                           {uint64(putFixed), false},
		"past the end of a file":              {uint64(putShort) + 0x1000, false},
		"non-canonical":                       {1 << 62, false},
		"first above the user half":           {1 << 47, false},
		"wraps":                               {^uint64(15), false},
		"the return address":                  {sp, false},
		"the last byte of the return address": {sp + 7, false},
		"a saved register":                    {sp - 8, false},
		"below rsp":                           {sp - uint64(c.Stack), false},
		"code":                                {uint64(l.Code), false},
		"the control block":                   {uint64(l.Control), false},
		"the counters":                        {uint64(l.Counters), false},
		"the first byte of the arena":         {uint64(arena) - uint64(size) + 1, false},
	}
}

// A store across two pages writes all or nothing, whichever of them cannot be written.
func TestPutAcrossPages(t *testing.T) {
	const value = 0x1122334455667788
	const pages = dataAt + 0x50000 // writable, PROT_NONE, read-only, writable, writable
	free := amd64.Set(amd64.R11)
	before := bytes.Repeat([]byte{0xee}, 16)
	for mode := Table; mode <= Copy; mode++ {
		m := newMachine(t)
		for i, prot := range []uint32{protRead | protWrite, 0, protRead, protRead | protWrite, protRead | protWrite} {
			m.mapAt(pages+address.Addr(i*pageSize), pageSize, protRead|protWrite, 0)
			m.poke(pages+address.Addr(i*pageSize), bytes.Repeat(before, pageSize/16))
			if prot != protRead|protWrite {
				m.mapAt(pages+address.Addr(i*pageSize), pageSize, prot, 0)
			}
		}
		m.installHandler(nil, oldDefault, 0)
		l := m.layout()
		l.Faults = mode
		for _, size := range []int{2, 4, 8} {
			c := compileUnit(t, proven(t, putGuard(t, size, false)), Site{Free: free}, l)
			for off := 1; off < size; off++ {
				for second, ok := range map[int]bool{1: false, 2: false, 3: false, 4: true} { // the page behind the boundary
					m.place(c, l, ModeEnforce)
					m.setTable(c.Faults)
					at := pages + address.Addr(second*pageSize-off)
					what := fmt.Sprintf("mode %d, size %d, %d bytes before page %d", mode, size, off, second)
					if got := m.callWith(l.Code, free, what, uint64(at)-4, value); (got == 1) != ok {
						t.Errorf("%s: %#x", what, got)
					}
					want := bytes.Clone(before)
					if ok {
						copy(want[8:], binary.LittleEndian.AppendUint64(nil, value)[:size])
					}
					switch {
					case second == 3 && !bytes.Equal(m.peek(pages+address.Addr(second*pageSize), 8), before[:8]):
						t.Errorf("%s: the second page has changed", what)
					case second == 1 && !bytes.Equal(m.peek(pages+address.Addr(second*pageSize)-8, 8), before[:8]):
						t.Errorf("%s: the first page has changed", what)
					case ok && !bytes.Equal(m.peek(at, size), want[8:8+size]):
						t.Errorf("%s: % x", what, m.peek(at, size))
					}
				}
			}
		}
	}
}

// A store writes where it may, and is a fault where it may not.
func TestPut(t *testing.T) {
	const value = 0x1122334455667788
	free := amd64.Set(amd64.R11)
	for mode := Table; mode <= Copy; mode++ {
		m := newMachine(t)
		m.mapAt(putNone, 0x1000, 0, 0)
		m.mapAt(putFixed, 0x1000, protRead, 0)
		m.mapAt(putShort, 0x2000, protRead|protWrite, 1)
		m.installHandler(nil, oldDefault, 0)
		l := m.layout()
		l.Faults = mode
		for _, size := range []int{1, 2, 4, 8} {
			for _, constant := range []bool{false, true} {
				c := compileUnit(t, proven(t, putGuard(t, size, constant)), Site{Free: free}, l)
				for name, x := range puts(l, c, size) {
					m.place(c, l, ModeEnforce)
					m.setTable(c.Faults)
					what := fmt.Sprintf("mode %d, size %d, constant %t, %s", mode, size, constant, name)
					v := uint64(value)
					if constant {
						v = 0x55
					}
					want := []byte(nil)
					if x.ok {
						want = m.peek(address.Addr(x.at), 8)
						copy(want, binary.LittleEndian.AppendUint64(nil, v)[:size])
					}
					got := m.callWith(l.Code, free, what, x.at-4, value)
					if x.ok != (got == 1) || !x.ok && got != ^uint64(6) {
						t.Errorf("%s: %#x", what, got)
					}
					if n := m.counter(l, CounterFaults); (n == 1) == x.ok {
						t.Errorf("%s: %d faults counted", what, n)
					}
					if !x.ok {
						continue
					}
					if now := m.peek(address.Addr(x.at), 8); !bytes.Equal(now, want) {
						t.Errorf("%s: memory is % x, want % x", what, now, want)
					}
				}
			}
		}
	}
}

// Where a store is not to take place, memory stays as it is, and what could not be
// read is a fault.
func TestPutOnlyInForce(t *testing.T) {
	const fine, unlikely = uint64(dataAt) + 0x100, 0xeeeeeeeeeeeeeeee
	for mode := Table; mode <= Copy; mode++ {
		m := newMachine(t)
		m.mapAt(putFixed, 0x1000, protRead, 0)
		m.installHandler(nil, oldDefault, 0)
		for _, x := range []struct {
			name  string
			mode  Mode
			trial uint64 // TSC at its end
			acts  bool
		}{
			{"enforce", ModeEnforce, 0, true},
			{"audit", ModeAudit, 0, false},
			{"trial", ModeEnforce, 1 << 62, true},
			{"trial that is over", ModeEnforce, 1, false},
			{"audit during a trial", ModeAudit, 1 << 62, false},
		} {
			for _, u := range []*bpf.Unit{putGuard(t, 8, false), zeroGuard(t)} {
				l := m.layout()
				l.Faults = mode
				c := compileUnit(t, proven(t, u), Site{}, l)
				for _, at := range []uint64{fine, uint64(putFixed), 0} {
					m.place(c, l, x.mode)
					m.setTable(c.Faults)
					m.poke64(l.Control+ControlTrialEnd, x.trial)
					m.poke64(address.Addr(fine)+4, unlikely)
					in := filled(8)
					in.GPR[amd64.RDI], in.GPR[amd64.RSI] = at, 16
					m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
					if outcome, out := m.call(l.Code, in); outcome == hasPassed && *out != *in || out.YMM != in.YMM {
						t.Errorf("mode %d, %s: registers changed", mode, x.name)
					}
					same := binary.LittleEndian.Uint64(m.peek(address.Addr(fine)+4, 8)) == unlikely
					if same == (x.acts && at == fine) {
						t.Errorf("mode %d, %s, %#x: unchanged: %t", mode, x.name, at, same)
					}
					faults := m.counter(l, CounterFaults)
					if want := at == 0 || at == uint64(putFixed) && x.acts; (faults == 1) != want {
						t.Errorf("mode %d, %s, %#x: %d faults", mode, x.name, at, faults)
					}
				}
			}
		}
	}
}

// Every alignment and small length, lengths around what one system call clears and
// across pages, ends in memory that cannot be written, and too little fuel.
func TestZero(t *testing.T) {
	const room = 0x1000
	lengths := []uint64{0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 513, 2000}
	full := bytes.Repeat([]byte{'x'}, readOnly)
	for mode := Table; mode <= Copy; mode++ {
		m := newMachine(t)
		m.installHandler(nil, oldDefault, 0)
		m.write(dataAt+readOnly, protRead, make([]byte, 0x1000))
		u := zeroGuard(t)
		u.Fuel = 40
		l := m.layout()
		l.Faults = mode
		c := compileUnit(t, proven(t, u), Site{}, l)
		m.place(c, l, ModeEnforce)
		m.setTable(c.Faults)
		check := func(at, n uint64) {
			t.Helper()
			mem := &targetMemory{data: append(bytes.Clone(full), make([]byte, dataLen-readOnly)...)}
			m.poke(dataAt, full)
			want, err := (&bpf.Interp{Unit: u, Memory: mem}).Run(bpf.Frame{Args: [9]uint64{at, n}})
			if err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("mode %d, %d bytes at %#x", mode, n, at)
			if got := m.callWith(l.Code, 0, what, at, n); got != want.Words[0] {
				t.Errorf("%s: %d, want %d", what, int64(got), int64(want.Words[0]))
			}
			if got := m.peek(dataAt, readOnly); !bytes.Equal(got, mem.data[:readOnly]) {
				t.Errorf("%s: other bytes are 0", what)
			}
		}
		for _, n := range lengths {
			for i := range uint64(9) {
				check(uint64(dataAt)+room-i, n)
			}
			check(uint64(dataAt)+readOnly-n, n)
			check(uint64(dataAt)+readOnly-n+1, n)
		}
		for _, at := range []uint64{0, 1 << 47, uint64(dataAt) + readOnly, uint64(dataAt) + dataLen, filled(8).GPR[amd64.RSP] - 8, uint64(l.Control) - 8} {
			check(at, 16)
		}
		check(uint64(dataAt), 40*bpf.FuelBytes)
		check(uint64(dataAt), 40*bpf.FuelBytes+1)
		check(uint64(dataAt), bpf.MaxLength+1)
		check(uint64(dataAt), ^uint64(0))
	}
}
