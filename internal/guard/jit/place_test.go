package jit

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// verified assembles and verifies a guard whose landings are at its end: two
// instructions each that pass.
func verified(t testing.TB, text string, symbols ...bpf.Symbol) *verify.Program {
	t.Helper()
	u := unit(t, text+"\nmov %r0, 0\nexit\nmov %r0, 0\nexit", 0, 0)
	u.OnFault, u.OnFuel, u.Symbols, u.Caps = len(u.Insns)-4, len(u.Insns)-2, symbols, bpf.CapRewrite
	p, err := verify.Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run places a guard and calls it with word 0; it returns the outcome and rax.
func (m *machine) run(p *verify.Program, s Site, l Layout, word0 uint64) (int, *cpu) {
	m.t.Helper()
	c, err := Compile(p, s, l)
	if err != nil {
		m.t.Fatal(err)
	}
	m.place(c, l, ModeEnforce)
	m.setTable(c.Faults)
	in := filled(8)
	in.GPR[conventionOf(s.ABI).args[0]] = word0
	m.poke64(address.Addr(in.GPR[amd64.RSP]).Add(int64(s.SPDelta)), uint64(m.returned))
	return m.call(l.Code, in)
}

func TestFrameWords(t *testing.T) {
	m := newMachine(t)
	sp := filled(8).GPR[amd64.RSP]
	for _, c := range []struct {
		name, text string
		delta      int32
		want       uint64
	}{
		{"stack pointer", "ldxdw %r2, [%r1+72]\nstxdw [%r1+128], %r2\nmov %r0, 0x101\nexit", 0, sp},
		{"stack pointer under a push", "ldxdw %r2, [%r1+72]\nstxdw [%r1+128], %r2\nmov %r0, 0x101\nexit", 8, sp + 8},
		{"return address", "ldxdw %r2, [%r1+80]\nstxdw [%r1+128], %r2\nmov %r0, 0x101\nexit", 8, uint64(m.returned)},
		{"both within a frame", `
			ldxdw %r2, [%r1+0]
			stxdw [%r10-8], %r2
			ldxdw %r3, [%r1+72]
			ldxdw %r4, [%r1+80]
			add %r3, %r4
			ldxdw %r2, [%r10-8]
			add %r3, %r2
			stxdw [%r1+128], %r3
			mov %r0, 0x101
			exit`, 16, sp + 16 + uint64(m.returned) + 5},
	} {
		s := Site{SPDelta: c.delta, Undo: []byte{0x48, 0x83, 0xc4, byte(c.delta)}}
		outcome, out := m.run(verified(t, c.text), s, m.layout(), 5)
		if outcome != hasReturned || out.GPR[amd64.RAX] != c.want {
			t.Errorf("%s: outcome %d, rax %#x, want %#x", c.name, outcome, out.GPR[amd64.RAX], c.want)
		}
		if want := sp + uint64(c.delta) + 8; out.GPR[amd64.RSP] != want {
			t.Errorf("%s: rsp %#x, want %#x", c.name, out.GPR[amd64.RSP], want)
		}
	}
}

func TestSymbols(t *testing.T) {
	m := newMachine(t)
	m.poke64(dataAt+24, 0xfeedface)
	text := `
		lddw_symbol
		ldxdw %r3, [%r2+8]
		stxdw [%r1+128], %r3
		mov %r0, 0x101
		exit`
	u := unit(t, "lddw %r2, 0"+text[len("\n\t\tlddw_symbol"):]+"\nmov %r0, 0\nexit\nmov %r0, 0\nexit", 0, 0)
	u.Insns[0].Src = bpf.PseudoSymbol
	u.OnFault, u.OnFuel = len(u.Insns)-4, len(u.Insns)-2
	u.Symbols = []bpf.Symbol{{Name: "counter", Kind: bpf.SymbolData}}
	p, err := verify.Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	l := m.layout()
	l.Symbols = []address.Addr{dataAt + 16}
	if outcome, out := m.run(p, Site{}, l, 0); outcome != hasReturned || out.GPR[amd64.RAX] != 0xfeedface {
		t.Errorf("outcome %d, rax %#x", outcome, out.GPR[amd64.RAX])
	}
	l.Symbols = nil
	if _, err := Compile(p, Site{}, l); !errors.Is(err, ErrSymbol) {
		t.Errorf("no address: %v, want ErrSymbol", err)
	}
}

// TestTidNow: the thread's id, and the clock's arithmetic beyond 64 bits.
func TestTidNow(t *testing.T) {
	m := newMachine(t)
	tid := verified(t, "mov %r9, %r1\ncall tid\nstxdw [%r9+128], %r0\nmov %r0, 0x101\nexit")
	for _, allowed := range []bool{true, false} {
		l, want := m.layout(), uint64(m.tid)
		if l.Gettid = allowed; !allowed {
			want = 0
		}
		if outcome, out := m.run(tid, Site{}, l, 0); outcome != hasReturned || out.GPR[amd64.RAX] != want {
			t.Errorf("tid: outcome %d, rax %d, want %d", outcome, out.GPR[amd64.RAX], want)
		}
	}
	now := verified(t, "mov %r9, %r1\ncall now\nstxdw [%r9+128], %r0\nmov %r0, 0x101\nexit")
	l := m.layout()
	c, err := Compile(now, Site{}, l)
	if err != nil {
		t.Fatal(err)
	}
	m.place(c, l, ModeEnforce)
	in := filled(8)
	m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
	read := func(ns, mult uint64) uint64 {
		m.poke64(l.Control+ControlClockTSC, 0)
		m.poke64(l.Control+ControlClockNS, ns)
		m.poke64(l.Control+ControlClockMult, mult)
		_, out := m.call(l.Code, in)
		rest := *out
		rest.GPR[amd64.RAX], rest.GPR[amd64.RSP] = in.GPR[amd64.RAX], in.GPR[amd64.RSP]
		if rest != *in {
			t.Errorf("now changed registers:\n%x\n%x", out.GPR, in.GPR)
		}
		return out.GPR[amd64.RAX]
	}
	ticks := read(0, 1<<32)
	if later := read(0, 1<<32); later <= ticks || later-ticks > 1<<40 {
		t.Errorf("the clock went from %d to %d", ticks, later)
	}
	// 3/2 ns a tick: the product of a large TSC passes 64 bits.
	lo, got, hi := read(0, 1<<32), read(1000, 3<<31), read(0, 1<<32)
	if got < lo/2*3+1000-2 || got > hi/2*3+1000+2 {
		t.Errorf("scaled clock %d is not between %d and %d", got, lo/2*3+1000, hi/2*3+1000)
	}
}

// TestErrno: through a GOT slot, and refused where the target has none.
func TestErrno(t *testing.T) {
	p := verified(t, "ldxdw %r2, [%r1+0]\nstxdw [%r1+208], %r2\nmov %r0, 0x20001\nexit")
	constant := verified(t, "stdw [%r1+208], 22\nmov %r0, 0x20001\nexit")
	m := newMachine(t)
	l := m.layout()
	m.poke64(dataAt+64, uint64(int64(m.errnoOffset)))
	for _, slot := range []ErrnoSlot{l.Errno, {Known: true, GOT: dataAt + 64}} {
		l.Errno = slot
		for _, c := range []struct {
			p    *verify.Program
			want uint32
		}{{p, 13}, {constant, 22}} {
			outcome, out := m.run(c.p, Site{}, l, 13)
			if outcome != hasReturned || out.GPR[amd64.RAX] != filled(8).GPR[amd64.RAX] {
				t.Errorf("%+v: outcome %d, rax %#x", slot, outcome, out.GPR[amd64.RAX])
			}
			if got := binary.LittleEndian.Uint32(m.ask(cmdErrno, 0, 0)); got != c.want {
				t.Errorf("%+v: errno %d, want %d", slot, got, c.want)
			}
		}
	}
	l.Errno = ErrnoSlot{}
	if _, err := Compile(p, Site{}, l); !errors.Is(err, ErrErrno) {
		t.Errorf("no slot: %v, want ErrErrno", err)
	}
}

// TestVariableVerdict: a verdict that is only known at run time.
func TestVariableVerdict(t *testing.T) {
	p := verified(t, `
		ldxdw %r2, [%r1+0]
		mov %r0, 0
		stdw [%r1+128], 77
		stdw [%r1+216], 5
		jlt %r2, 10, out
		mov %r0, 2
		jlt %r2, 20, out
		mov %r0, 0x101
	out:
		mov %r3, %r2
		add %r3, %r0
		add %r3, %r3
		add %r3, %r3
		add %r3, %r3
		add %r3, %r3
		add %r3, %r3
		add %r3, %r3
		stxdw [%r1+128], %r3
		exit`)
	m := newMachine(t)
	for _, c := range []struct {
		arg     uint64
		outcome int
		logs    uint64
	}{{5, hasPassed, 0}, {15, hasPassed, 1}, {25, hasReturned, 0}} {
		l := m.layout()
		outcome, out := m.run(p, Site{}, l, c.arg)
		if outcome != c.outcome || m.counter(l, CounterLogs) != c.logs {
			t.Errorf("%d: outcome %d, %d logs; want %+v", c.arg, outcome, m.counter(l, CounterLogs), c)
		}
		if want := (c.arg + 0x101) << 6; outcome == hasReturned && out.GPR[amd64.RAX] != want {
			t.Errorf("%d: rax %#x, want %#x", c.arg, out.GPR[amd64.RAX], want)
		}
	}
}

// TestRefusals: what cannot be placed says so with its own error.
func TestRefusals(t *testing.T) {
	good := Layout{
		Code: codeAt, Control: stateAt, Counters: sharedAt, Events: sharedAt + 0x1000, After: goesBack, Gettid: true,
	}
	pass := "mov %r0, 0\nexit"
	read := "ldxdw %r2, [%r1+0]\nldxw %r2, [%r2+0]\nmov %r0, 0\nexit"
	for _, c := range []struct {
		name, text string
		s          Site
		change     func(l *Layout)
		want       error
	}{
		{"argument 6 under SysV", "ldxdw %r2, [%r1+48]\nstxdw [%r1+128], %r2\nmov %r0, 0x101\nexit", Site{}, nil, ErrArgument},
		{"three words under SysV", "stdw [%r1+128], 1\nstdw [%r1+136], 1\nstdw [%r1+144], 1\nmov %r0, 0x301\nexit", Site{}, nil, ErrResult},
		{"xmm0 under Go", "stdw [%r1+200], 1\nmov %r0, 0x10001\nexit", Site{ABI: GoInternal}, nil, ErrResult},
		{"probe without its system call", read, Site{}, func(l *Layout) { l.Faults, l.Gettid = Probe, false }, ErrSyscall},
		{"code misaligned", pass, Site{}, func(l *Layout) { l.Code++ }, ErrLayout},
		{"no way back", pass, Site{}, func(l *Layout) { l.After = nil }, ErrLayout},
		{"a way back that cannot be written", pass, Site{}, func(l *Layout) { l.After = nowhere }, errJumpReach},
		{"control misaligned", pass, Site{}, func(l *Layout) { l.Control += 8 }, ErrLayout},
		{"counters out of reach", pass, Site{Free: amd64.Set(amd64.RAX, amd64.R11)}, func(l *Layout) { l.Counters += 1 << 32 }, ErrLayout},
		{"instructions ahead that cannot be written", pass, Site{}, func(l *Layout) { l.Before = nowhere }, errJumpReach},
		{"unknown fault mode", pass, Site{}, func(l *Layout) { l.Faults = 9 }, ErrLayout},
		{"unknown convention", pass, Site{ABI: 9}, nil, ErrLayout},
		{"entry above the stack pointer", pass, Site{SPDelta: -8}, nil, ErrLayout},
	} {
		l := good
		if c.change != nil {
			c.change(&l)
		}
		_, err := Compile(verified(t, c.text), c.s, l)
		var place *PlaceError
		if !errors.Is(err, c.want) || !errors.As(err, &place) {
			t.Errorf("%s: %v, want a *PlaceError of %v", c.name, err, c.want)
		}
	}
	u := unit(t, strdupNull, 8, 8)
	u.Insns = slices.Insert(u.Insns, 1, slices.Repeat([]bpf.Insn{
		{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Dst: 2, Src: 2}, {Op: bpf.ClassALU64 | bpf.AluXOR, Dst: 2, Imm: 5},
	}, maxValues/2)...)
	if _, err := compile(guess{u}, Site{}, good, pressures[:]); !errors.Is(err, ErrUnsupported) {
		t.Errorf("more than a code region holds: %v, want ErrUnsupported", err)
	}
	if _, err := Handler(HandlerLayout{Code: codeAt + 1, Faults: stateAt}); !errors.Is(err, ErrLayout) {
		t.Errorf("handler misaligned: %v", err)
	}
	if _, err := Handler(HandlerLayout{Code: codeAt, Faults: stateAt + 1<<40}); !errors.Is(err, ErrLayout) {
		t.Errorf("fault block out of reach: %v", err)
	}
	for name, r := range map[string][]FaultRange{
		"empty range":      {{codeAt, codeAt, codeAt}},
		"overlap":          {{codeAt, codeAt + 8, codeAt}, {codeAt + 4, codeAt + 9, codeAt}},
		"landing too far":  {{codeAt, codeAt + 1, codeAt + 1<<33}},
		"end before start": {{codeAt + 8, codeAt, codeAt}},
	} {
		if _, err := FaultTable(r); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStack: what the common guard needs of the stack, and of registers.
func TestStack(t *testing.T) {
	l := Layout{
		Code: codeAt, Control: stateAt, Counters: sharedAt, Events: sharedAt + 0x1000, After: goesBack, Gettid: true,
	}
	free := Site{Free: amd64.Set(amd64.RAX, amd64.R10, amd64.R11)}
	for _, c := range []struct {
		name, text string
		s          Site
		saved      amd64.RegSet
		most       int
	}{
		{"compare", "ldxdw %r2, [%r1+0]\njgt %r2, 9, +2\nmov %r0, 0\nexit\nmov %r0, 0\nexit", free, 0, 0},
		{"compare, nothing free", "ldxdw %r2, [%r1+0]\njgt %r2, 9, +2\nmov %r0, 0\nexit\nmov %r0, 0\nexit", Site{}, 0, 8},
		{"field", "ldxdw %r2, [%r1+0]\nldxw %r2, [%r2+8]\njgt %r2, 9, +2\nmov %r0, 0\nexit\nmov %r0, 0\nexit", free, 0, 120},
		{"reject", "ldxdw %r2, [%r1+0]\njgt %r2, 9, +2\nmov %r0, 0\nexit\nmov %r0, 1\nexit", free, 0, 120},
	} {
		code, err := Compile(verified(t, c.text), c.s, l)
		if err != nil {
			t.Fatal(err)
		}
		if code.Saved != c.saved || code.Stack > c.most {
			t.Errorf("%s: saves %v and uses %d bytes of stack, want %v and at most %d", c.name, code.Saved, code.Stack, c.saved, c.most)
		}
	}
}

// TestGoroutineStack: a guard never writes below the goroutine's stack, and what
// needs too much of it is refused.
func TestGoroutineStack(t *testing.T) {
	m := newMachine(t)
	l := m.layout()
	reject := verified(t, "stdw [%r1+128], 9\nmov %r0, 0x101\nexit")
	scan := verified(t, "mov %r9, %r1\nldxdw %r1, [%r1+0]\nmov %r2, 9\ncall strlen\nstxdw [%r9+128], %r0\nmov %r0, 0x101\nexit")
	for _, p := range []*verify.Program{reject, scan} {
		for _, free := range []amd64.RegSet{0, amd64.Set(amd64.R12, amd64.R13)} {
			c, err := Compile(p, Site{ABI: GoInternal, Free: free}, l)
			if err != nil {
				t.Fatal(err)
			}
			m.place(c, l, ModeEnforce)
			m.setTable(c.Faults)
			in := filled(8)
			in.GPR[amd64.RAX], in.GPR[amd64.R14] = uint64(dataAt), uint64(gAt)
			sp := in.GPR[amd64.RSP]
			m.poke64(address.Addr(sp), uint64(m.returned))
			for _, enough := range []bool{true, false} {
				room, outcome, faults := uint64(goInternal.room), hasReturned, uint64(0)
				if !enough {
					room, outcome, faults = room-1, hasPassed, 1
				}
				m.poke64(gAt, sp-room)
				below := m.peek(address.Addr(sp-1024), 1024)
				if got, _ := m.call(l.Code, in); got != outcome {
					t.Errorf("room %d: outcome %d, want %d", room, got, outcome)
				}
				if got := m.counter(l, CounterFaults); got != faults {
					t.Errorf("room %d: %d faults", room, got)
				}
				if !enough && string(m.peek(address.Addr(sp-1024), 1024)) != string(below) {
					t.Error("wrote below the stack pointer")
				}
			}
		}
	}
	if _, err := Compile(reject, Site{ABI: GoInternal}, l); err != nil {
		t.Error(err)
	}
	big := verified(t, "ldxdw %r2, [%r1+0]\nstxdw [%r10-512], %r2\nldxdw %r1, [%r1+8]\nmov %r2, 9\nmov %r3, 1\ncall count\nmov %r0, 0\nexit")
	l.Faults = Copy
	if _, err := Compile(big, Site{ABI: GoInternal}, l); !errors.Is(err, ErrStack) {
		t.Errorf("too much stack: %v, want ErrStack", err)
	}
}

// TestCycles: values that change places around a loop, with all, some and none
// of them in registers.
func TestCycles(t *testing.T) {
	p := verified(t, `
		ldxdw %r6, [%r1+0]
		mov %r2, 11
		mov %r3, 22
		mov %r4, 33
		mov %r5, 44
		mov %r7, 55
	again:
		mov %r0, %r2
		mov %r2, %r3
		mov %r3, %r4
		mov %r4, %r0
		mov %r0, %r5
		mov %r5, %r7
		mov %r7, %r0
		sub %r6, 1
		jne %r6, 0, again
		mul %r2, 1000
		add %r2, %r3
		mul %r2, 1000
		add %r2, %r4
		mul %r2, 1000
		add %r2, %r5
		mul %r2, 1000
		add %r2, %r7
		stxdw [%r1+128], %r2
		mov %r0, 0x101
		exit`)
	m := newMachine(t)
	l := m.layout()
	for pool := range 9 {
		c, err := compile(p, Site{}, l, []pressure{{spill: true, pool: pool}})
		if err != nil {
			t.Fatal(err)
		}
		m.place(c, l, ModeEnforce)
		for rounds := uint64(1); rounds < 8; rounds++ {
			want, err := (&bpf.Interp{Unit: p.Unit()}).Run(bpf.Frame{Args: [bpf.FrameArgs]uint64{rounds}})
			if err != nil {
				t.Fatal(err)
			}
			in := filled(8)
			in.GPR[amd64.RDI] = rounds
			m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
			if _, out := m.call(l.Code, in); out.GPR[amd64.RAX] != want.Words[0] {
				t.Errorf("%d registers, %d rounds: %d, want %d", pool, rounds, out.GPR[amd64.RAX], want.Words[0])
			}
		}
	}
}

// TestPlaceError: a person sees the place in the prepatch, or else the instruction.
func TestPlaceError(t *testing.T) {
	for _, c := range []struct {
		err  PlaceError
		want string
	}{
		{PlaceError{Unit: "Match", Insn: 3, Pos: bpf.Pos{File: "guard.go", Line: 7, Col: 2}, Err: ErrErrno}, "guard.go:7:2: Match: where the target keeps errno is not known"},
		{PlaceError{Unit: "Match", Insn: 3, Detail: "word 7", Err: ErrArgument}, "Match: instruction 3: word 7: argument word is not in a register under this calling convention"},
		{PlaceError{Unit: "Match", Insn: -1, Detail: "unknown fault mode", Err: ErrLayout}, "Match: unknown fault mode: memory layout is unusable"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Values that wait in free registers for a reject survive the look at the
// goroutine's stack on the way there.
func TestGoroutineStackKeepsValues(t *testing.T) {
	m := newMachine(t)
	l := m.layout()
	m.poke64(dataAt, 0x1111)
	m.poke64(dataAt+8, 0x2222)
	p := verified(t, `
		ldxdw %r2, [%r1+0]
		ldxdw %r3, [%r2+0]
		ldxdw %r4, [%r2+8]
		jeq %r3, %r4, same
		stxdw [%r1+128], %r3
		stxdw [%r1+136], %r4
		mov %r0, 0x201
		exit
	same:
		mov %r0, 0
		exit`)
	for _, free := range []amd64.RegSet{0, amd64.Set(amd64.R12), amd64.Set(amd64.R12, amd64.R13), amd64.Set(amd64.R12, amd64.R13, amd64.R15)} {
		c, err := Compile(p, Site{ABI: GoInternal, Free: free}, l)
		if err != nil {
			t.Fatal(err)
		}
		m.place(c, l, ModeEnforce)
		m.setTable(c.Faults)
		in := filled(8)
		in.GPR[amd64.RAX], in.GPR[amd64.R14] = uint64(dataAt), uint64(gAt)
		m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
		outcome, out := m.call(l.Code, in)
		if outcome != hasReturned || out.GPR[amd64.RAX] != 0x1111 || out.GPR[amd64.RBX] != 0x2222 {
			t.Errorf("free %v: outcome %d, results %#x %#x, want 0x1111 0x2222", free, outcome, out.GPR[amd64.RAX], out.GPR[amd64.RBX])
		}
	}
}
