package jit

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Where the benchmarks put the function, in its several forms.
const (
	bareAt   = codeAt + 0x8000
	patchAt  = codeAt + 0x8100 // the function with a jump at its entry
	trampAt  = codeAt + 0x8200
	detourAt = codeAt + 0x8300
)

// toTrampoline leads a call that passed to the trampoline.
func toTrampoline(at address.Addr) ([]byte, error) { return Jump(at, trampAt, jmpSize) }

// inline is what a guard that was inserted has behind its link.
func inline(at address.Addr) ([]byte, error) {
	a := amd64.NewAsm(at)
	prologue(a)
	a.JmpTo(patchAt + 6)
	return a.Bytes()
}

// guarded is the function: six bytes to move, and an answer.
func guarded(a *amd64.Asm) {
	prologue(a)
	body(a)
}

func prologue(a *amd64.Asm) {
	a.Push(amd64.RBP)
	a.Mov(8, amd64.RBP, amd64.RSP)
	a.Mov(4, amd64.RAX, amd64.RDI)
}

func body(a *amd64.Asm) {
	a.Op(amd64.Add, 4, amd64.RAX, amd64.RSI)
	a.Pop(amd64.RBP)
	a.Ret()
}

func (m *machine) assemble(at address.Addr, write func(a *amd64.Asm)) {
	m.t.Helper()
	a := amd64.NewAsm(at)
	write(a)
	b, err := a.Bytes()
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(at, protRead|protExec, b)
}

// timing is nanoseconds a call, of the guarded and of the bare function, taken
// in turn.
type timing struct{ min, median, bareMin, bareMedian float64 }

// timeCalls times the function at at beside the bare one, while threads−1 other
// threads call it too.
func (m *machine) timeCalls(at address.Addr, threads uint32, calls uint32, args ...uint64) timing {
	m.t.Helper()
	a := [4]uint64{}
	copy(a[:], args)
	b := m.ask(cmdBench, 0, at, uint64(300), calls, threads, uint64(bareAt), a)
	ns := func(i int) float64 { return float64(binary.LittleEndian.Uint64(b[8*i:])) / 1000 }
	return timing{ns(0), ns(1), ns(2), ns(3)}
}

// patch leads the entry of the function at patchAt to to, and lays the trampoline.
func (m *machine) patch(to address.Addr) {
	m.t.Helper()
	m.assemble(patchAt, func(a *amd64.Asm) {
		a.JmpTo(to)
		a.Nop(1)
		body(a)
	})
	m.assemble(trampAt, func(a *amd64.Asm) {
		prologue(a)
		a.JmpTo(patchAt + 6)
	})
}

// Guards that the benchmarks time; each passes.
const (
	benchRegister = `
	ldxdw %r2, [%r1+8]
	jsgt32 %r2, 1024, bad
	ldxdw %r3, [%r1+0]
	jeq %r3, 0, bad
	mov %r0, 0
	exit
bad:
	mov %r2, -1
	stxdw [%r1+128], %r2
	mov %r0, 0x101
	exit
	mov %r0, 0
	exit
	mov %r0, 0
	exit
`
	benchField = `
	ldxdw %r2, [%r1+0]
	ldxw %r3, [%r2+16]
	jgt %r3, 1024, bad
	mov %r0, 0
	exit
bad:
	mov %r2, -1
	stxdw [%r1+128], %r2
	mov %r0, 0x101
	exit
	mov %r0, 0
	exit
	mov %r0, 0
	exit
`
	benchCount = `
	ldxdw %r2, [%r1+8]
	ldxdw %r1, [%r1+0]
	mov %r3, 42
	call count
	jgt %r0, 10, bad
	mov %r0, 0
	exit
bad:
	mov %r0, 0x1
	exit
	mov %r0, 0
	exit
	mov %r0, 0
	exit
`
	benchStrLen = `
	ldxdw %r1, [%r1+0]
	mov %r2, 4096
	call strlen
	jgt %r0, 1000, bad
	mov %r0, 0
	exit
bad:
	mov %r0, 0x1
	exit
	mov %r0, 0
	exit
	mov %r0, 0
	exit
`
)

// BenchmarkGuard times calls in one test process, each beside the bare function
// in the same run: what counts is the difference.
func BenchmarkGuard(b *testing.B) {
	free := amd64.Set(amd64.RAX, amd64.R10, amd64.R11)
	m := newMachine(b)
	m.assemble(bareAt, guarded)
	str := make([]byte, 257)
	for i := range str[:256] {
		str[i] = 'a'
	}
	m.poke(dataAt+7, str)
	calls := uint32(20_000)
	time := func(name string, threads uint32, prepare func() address.Addr, args ...uint64) {
		b.Run(fmt.Sprintf("%s/threads=%d", name, threads), func(b *testing.B) {
			m.t = b
			at := prepare()
			for b.Loop() {
				r := m.timeCalls(at, threads, calls, args...)
				b.ReportMetric(r.bareMin, "bare-ns")
				b.ReportMetric(r.min-r.bareMin, "added-ns")
				b.ReportMetric(r.median-r.bareMedian, "added-median-ns")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
	// elsewhere has the moved instructions at a place of their own, and pointed
	// reaches the guard through a pointer: what else could have been built.
	elsewhere := func(prepare func(after Displaced) address.Addr) func() address.Addr {
		return func() address.Addr { return prepare(toTrampoline) }
	}
	pointed := func(prepare func(after Displaced) address.Addr) func() address.Addr {
		return func() address.Addr {
			at := prepare(toTrampoline)
			m.write(codeAt+0x8400, protRead|protExec, binary.LittleEndian.AppendUint64(nil, uint64(codeAt)))
			m.patch(codeAt + 0x8480)
			m.assemble(codeAt+0x8480, func(a *amd64.Asm) { a.JmpMem(amd64.Abs(codeAt + 0x8400)) })
			return at
		}
	}
	placed := func(text string, free amd64.RegSet, mode FaultMode) func(after Displaced) address.Addr {
		return func(after Displaced) address.Addr {
			l := m.layout()
			l.Faults, l.After = mode, after
			insns := unit(m.t, text, 0, 0)
			n := len(insns.Insns)
			insns.OnFault, insns.OnFuel = n-4, n-2
			c := compileUnit(m.t, guess{insns}, Site{Free: free}, l)
			m.place(c, l, ModeEnforce)
			m.patch(l.Code)
			return patchAt
		}
	}
	guard := func(text string, free amd64.RegSet, mode FaultMode) func() address.Addr {
		return func() address.Addr { return placed(text, free, mode)(inline) }
	}
	for _, threads := range []uint32{1, 2, 8} {
		time("detour", threads, func() address.Addr {
			m.patch(detourAt)
			m.assemble(detourAt, func(a *amd64.Asm) {
				out := a.Label()
				a.LockInc(amd64.Abs(sharedAt))
				a.OpImm(amd64.Cmp, 4, amd64.RSI, 1024)
				a.Jcc(amd64.CondG, out)
				a.Test(8, amd64.RDI, amd64.RDI)
				a.Jcc(amd64.CondE, out)
				prologue(a)
				a.JmpTo(patchAt + 6)
				a.Bind(out)
				a.MovImm(amd64.RAX, -1)
				a.Ret()
			})
			return patchAt
		}, 1, 2)
		time("register", threads, guard(benchRegister, free, Table), 1, 2)
	}
	time("register-trampoline", 1, elsewhere(placed(benchRegister, free, Table)), 1, 2)
	time("register-pointer", 1, pointed(placed(benchRegister, free, Table)), 1, 2)
	time("register-nothing-free", 1, guard(benchRegister, 0, Table), 1, 2)
	time("field", 1, guard(benchField, free, Table), uint64(dataAt+0x100))
	calls = 200
	time("field-probe", 1, guard(benchField, free, Probe), uint64(dataAt+0x100))
	time("field-copy", 1, guard(benchField, free, Copy), uint64(dataAt+0x100))
	calls = 2_000
	time("count-256", 1, guard(benchCount, free, Table), uint64(dataAt+7), 256)
	time("strlen-256", 1, guard(benchStrLen, free, Table), uint64(dataAt+7))
	calls = 200
	time("strlen-256-probe", 1, guard(benchStrLen, free, Probe), uint64(dataAt+7))
	time("strlen-256-copy", 1, guard(benchStrLen, free, Copy), uint64(dataAt+7))
}
