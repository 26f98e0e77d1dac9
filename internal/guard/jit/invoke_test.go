package jit

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Where the tests of calls have functions, and state far from the arena.
const (
	functionAt = codeAt + 0x9000
	farStateAt = address.Addr(0x40_0000_0000)
	insideAt   = farStateAt + 2*pageSize - bpf.InsideSize
)

// calling calls its symbol with arguments 0 to 3, 5 and 6, and rejects with the
// result, xmm0 and errno; a fault rejects with −7.
const calling = `
	mov %r9, %r1
	ldxdw %r2, [%r9+0]
	stxdw [%r10-64], %r2
	ldxdw %r2, [%r9+8]
	stxdw [%r10-56], %r2
	ldxdw %r2, [%r9+16]
	stxdw [%r10-48], %r2
	ldxdw %r2, [%r9+24]
	stxdw [%r10-40], %r2
	stdw [%r10-32], 5
	stdw [%r10-24], 6
	lddw %r1, symbol 0
	mov %r2, %r10
	add %r2, -64
	call invoke
	mov %r1, %r9
	stxdw [%r1+128], %r0
	ldxdw %r2, [%r10-16]
	stxdw [%r1+200], %r2
	ldxdw %r2, [%r10-8]
	stxdw [%r1+136], %r2
	mov %r0, 0x10201
	exit
	stdw [%r1+128], -7
	mov %r0, 0x101
	exit`

func callingUnit(t *testing.T) *bpf.Unit {
	t.Helper()
	u := unit(t, calling, 0, 0)
	u.OnFault, u.OnFuel = len(u.Insns)-3, len(u.Insns)-3
	u.Caps, u.State = bpf.CapCall, bpf.StateFirst+bpf.InsideSize
	u.Symbols = []bpf.Symbol{{Name: "f", Kind: bpf.SymbolFunc}}
	for i, in := range u.Insns { // reject with two words and xmm0
		if in.IsALU() && in.Operation() == bpf.AluMOV && in.Imm == 0x10201 {
			u.Insns[i].Imm = int32(bpf.Reject(2, bpf.VerdictXMM0))
		}
	}
	return u
}

// callLayout is where a guard that calls functionAt goes.
func (m *machine) callLayout(mode FaultMode) Layout {
	m.t.Helper()
	m.mapAt(farStateAt, 0x3000, protRead|protWrite, 0)
	l := m.layout()
	l.Faults, l.State, l.Pointer, l.XSave = mode, farStateAt, true, 16<<10
	l.Symbols = []address.Addr{functionAt}
	return l
}

// function writes a function of the target.
func (m *machine) function(write func(a *amd64.Asm)) {
	m.t.Helper()
	a := amd64.NewAsm(functionAt)
	write(a)
	code, err := a.Bytes()
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(functionAt, protRead|protExec, code)
}

// clobber writes a function that changes all it may, and errno. Its result is told
// by its arguments, and by how the stack is aligned.
func (m *machine) clobber(a *amd64.Asm) {
	sum := amd64.RAX
	a.Mov(8, sum, amd64.RSP)
	a.OpImm(amd64.And, 8, sum, 15) // 8 where it is as the psABI says
	for i, r := range sysV.args {
		a.IMulImm(8, r, r, int32(i+1))
		a.Op(amd64.Add, 8, sum, r)
	}
	for _, r := range []amd64.Reg{amd64.RCX, amd64.RDX, amd64.RSI, amd64.RDI, amd64.R8, amd64.R9, amd64.R10, amd64.R11} {
		a.MovImm(r, 0x5a5a5a5a)
	}
	a.StoreImm(4, amd64.FSAt(amd64.NoReg, m.errnoOffset), 77)
	if m.avx {
		a.Raw(0xc5, 0xfc, 0x77) // vzeroall
	}
	for i := range amd64.XMM(16) {
		a.Vec(amd64.PCmpEqB, i, i)
	}
	a.Raw(0xd9, 0xe8) // fld1
	a.MovToVec(8, 0, sum)
	a.Ret()
}

// A function is called with its arguments, on an aligned stack; its results and
// errno can be read, and every register and errno are as before.
func TestInvoke(t *testing.T) {
	for mode := Table; mode <= Copy; mode++ {
		for _, free := range []amd64.RegSet{0, amd64.Set(amd64.RAX, amd64.R10, amd64.R11)} {
			m := newMachine(t)
			m.installHandler(nil, oldDefault, 0)
			m.function(m.clobber)
			l := m.callLayout(mode)
			c := compileUnit(t, proven(t, callingUnit(t)), Site{Free: free}, l)
			m.place(c, l, ModeEnforce)
			m.setTable(c.Faults)
			for _, misalign := range []uint64{0, 8} {
				in := filled(misalign)
				want := *in
				a := in.GPR
				sum := 8 + a[amd64.RDI] + 2*a[amd64.RSI] + 3*a[amd64.RDX] + 4*a[amd64.RCX] + 5*5 + 6*6
				want.GPR[amd64.RAX], want.GPR[amd64.RDX] = sum, 77
				want.GPR[amd64.RSP] += 8
				binary.LittleEndian.PutUint64(want.YMM[0][:], sum)
				clear(want.YMM[0][8:16])
				m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
				was := string(m.ask(cmdErrno, 0, 0))
				outcome, out := m.call(l.Code, in)
				for _, r := range free.Without(amd64.RAX).Regs() {
					out.GPR[r] = want.GPR[r]
				}
				if outcome != hasReturned || *out != want {
					t.Errorf("mode %d, free %v: outcome %d\n%x\nwant\n%x\nymm0 %x, want %x", mode, free, outcome, out.GPR, want.GPR, out.YMM[0], want.YMM[0])
				}
				if now := string(m.ask(cmdErrno, 0, 0)); now != was {
					t.Errorf("mode %d: errno was % x and is % x", mode, was, now)
				}
				if inside := m.peek(insideAt, 8); binary.LittleEndian.Uint64(inside) != 0 {
					t.Errorf("mode %d: %d threads are in a call", mode, binary.LittleEndian.Uint64(inside))
				}
			}
		}
	}
}

// Where the stack has no room nothing is called.
func TestInvokeWithoutRoom(t *testing.T) {
	for mode := Table; mode <= Copy; mode++ {
		m := newMachine(t)
		m.installHandler(nil, oldDefault, 0)
		m.function(func(a *amd64.Asm) { a.UD2() })
		l := m.callLayout(mode)
		c := compileUnit(t, proven(t, callingUnit(t)), Site{}, l)
		for _, room := range []uint64{0x800, callRoom, callRoom + 15<<10} {
			m.place(c, l, ModeEnforce)
			m.setTable(c.Faults)
			in := filled(8)
			in.GPR[amd64.RSP] = uint64(stackAt) + room + 8
			m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
			want := *in
			want.GPR[amd64.RAX] = ^uint64(6)
			want.GPR[amd64.RSP] += 8
			if outcome, out := m.call(l.Code, in); outcome != hasReturned || *out != want || m.counter(l, CounterFaults) != 1 {
				t.Errorf("mode %d, room %#x: outcome %d\n%x\nwant\n%x", mode, room, outcome, out.GPR, want.GPR)
			}
		}
	}
}

// A guard that only counts calls nothing: the call passes, and would have been
// acted on.
func TestInvokeOnlyInForce(t *testing.T) {
	m := newMachine(t)
	m.function(func(a *amd64.Asm) { a.UD2() })
	l := m.callLayout(Copy)
	c := compileUnit(t, proven(t, callingUnit(t)), Site{}, l)
	for _, x := range []struct {
		mode  Mode
		trial uint64
	}{{ModeAudit, 0}, {ModeEnforce, 1}} {
		m.place(c, l, x.mode)
		m.poke64(l.Control+ControlTrialEnd, x.trial)
		in := filled(8)
		m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
		if outcome, out := m.call(l.Code, in); outcome != hasPassed || *out != *in || m.counter(l, CounterAudited) != 1 {
			t.Errorf("mode %d: outcome %d, %d audited", x.mode, outcome, m.counter(l, CounterAudited))
		}
	}
}

// A guard that the function enters passes; one whose function left without
// returning looks again.
func TestInvokeNested(t *testing.T) {
	for mode := Table; mode <= Copy; mode++ {
		m := newMachine(t)
		m.installHandler(nil, oldDefault, 0)
		l := m.callLayout(mode)
		l.Symbols = []address.Addr{codeAt}
		l.After = func(address.Addr) ([]byte, error) { // the guarded function: what it is given, plus 1000
			return []byte{0x48, 0x8d, 0x87, 0xe8, 0x03, 0, 0, 0xc3}, nil // lea rax, [rdi+1000]; ret
		}
		c := compileUnit(t, proven(t, callingUnit(t)), Site{}, l)
		m.place(c, l, ModeEnforce)
		m.setTable(c.Faults)
		for round := range uint64(3) {
			in := filled(8)
			in.GPR[amd64.RDI] = 30 + round
			m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
			if outcome, out := m.call(l.Code, in); outcome != hasReturned || out.GPR[amd64.RAX] != 1030+round {
				t.Errorf("mode %d: outcome %d, rax %d", mode, outcome, out.GPR[amd64.RAX])
			}
			nested := binary.LittleEndian.Uint64(m.peek(insideAt+InsideNested, 8))
			if nested != round+1 || m.counter(l, CounterCalls) != round+1 {
				t.Errorf("mode %d: %d nested calls, %d others", mode, nested, m.counter(l, CounterCalls))
			}
		}

		// What leaves by longjmp: the function goes to where the guard's caller goes on.
		l.Symbols = []address.Addr{functionAt}
		in := filled(8)
		m.function(func(a *amd64.Asm) {
			a.MovImm(amd64.RSP, int64(in.GPR[amd64.RSP]+8))
			a.MovImm(amd64.RBX, int64(in.GPR[amd64.RBX]))
			a.MovImm(amd64.R12, int64(in.GPR[amd64.R12]))
			a.MovImm(amd64.RBP, int64(in.GPR[amd64.RBP]))
			a.MovImm(amd64.RAX, int64(m.returned))
			a.JmpReg(amd64.RAX)
		})
		c = compileUnit(t, proven(t, callingUnit(t)), Site{}, l)
		m.place(c, l, ModeEnforce)
		m.setTable(c.Faults)
		for round := range uint64(2) {
			m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
			if outcome, _ := m.call(l.Code, in); outcome != hasReturned || m.counter(l, CounterCalls) != round+1 {
				t.Errorf("mode %d, after a longjmp: outcome %d, %d calls", mode, outcome, m.counter(l, CounterCalls))
			}
		}
	}
}

// What a call needs is refused where it is not known.
func TestInvokeRefused(t *testing.T) {
	m := newMachine(t)
	p := proven(t, callingUnit(t))
	for _, x := range []struct {
		name   string
		abi    ABI
		change func(l *Layout)
		want   error
	}{
		{"a Go function", GoInternal, func(*Layout) {}, ErrUnsupported},
		{"no thread pointer", SysV, func(l *Layout) { l.Pointer = false }, ErrThread},
		{"errno not known", SysV, func(l *Layout) { l.Errno = ErrnoSlot{} }, ErrErrno},
		{"no XSAVE", SysV, func(l *Layout) { l.XSave = 0 }, ErrXState},
		{"no symbol", SysV, func(l *Layout) { l.Symbols = nil }, ErrSymbol},
	} {
		l := m.callLayout(Table)
		x.change(&l)
		if _, err := Compile(p, Site{ABI: x.abi}, l); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
}
