package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// The kernel is a second opinion on instructions and on acceptance. A guard
// without target memory, symbols, constants and helpers is also a program of
// type SYSCALL: the frame becomes its context.
//
// Results must be equal. In acceptance the two differ, by policy:
//
//	only PIE accepts            loads through numbers (they are its fault points);
//	                            misaligned stack accesses; addresses moved by numbers
//	                            without bounds that are never used; addresses stored in
//	                            the caller's stack; anything behind a branch that
//	                            compares a number with its copy and is never taken
//	only the kernel accepts     (it runs as root, with CAP_PERFMON) reads of stack that
//	                            was not written; arithmetic and comparisons that tell
//	                            an address; offsets of arithmetic, because cilium/ebpf
//	                            leaves them out when it encodes
//
// One result is the kernel's own: 6.18 does not always zero-extend r0 after a 32-bit
// cmpxchg that succeeds, as RFC 9669 section 5.3 says; whether it does depends on the
// paths behind it. So the kernel is given the extension written out (TestCompareExchange).

// kernelProgram loads a unit; refused is the kernel's reason when it does not.
func kernelProgram(t *testing.T, u *bpf.Unit) (prog *ebpf.Program, refused error) {
	t.Helper()
	b, err := bpf.Encode(u.Insns)
	if err != nil {
		t.Fatal(err)
	}
	insns, err := asm.AppendInstructions(nil, bytes.NewReader(b), binary.LittleEndian, "linux")
	if err != nil {
		return nil, err
	}
	return ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Syscall, Instructions: insns, License: "GPL", Flags: unix.BPF_F_SLEEPABLE})
}

// contextOf is the frame as the kernel's program sees it.
func contextOf(f bpf.Frame) []byte {
	c := make([]byte, bpf.FrameSize)
	for k, v := range f.Args {
		binary.LittleEndian.PutUint64(c[bpf.FrameArg+8*k:], v)
	}
	binary.LittleEndian.PutUint64(c[bpf.FrameSP:], f.SP)
	binary.LittleEndian.PutUint64(c[bpf.FrameReturn:], f.Return)
	return c
}

// needKernel says why when bpf(2) cannot be used; then the test has nothing to
// compare with.
func needKernel(t *testing.T) bool {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Logf("no second opinion: %v", err)
		return false
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Syscall, License: "GPL", Flags: unix.BPF_F_SLEEPABLE,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Logf("no second opinion, bpf(2) is not to be had here: %v", err)
		return false
	}
	prog.Close()
	return true
}

// extended is u with the upper half of r0 cleared behind each 32-bit cmpxchg.
func extended(u *bpf.Unit) (*bpf.Unit, bool) {
	u, any := cloneUnit(u), false
	for pc := len(u.Insns) - 1; pc >= 0; pc-- {
		if i := u.Insns[pc]; i.IsAtomic() && i.Imm == bpf.AtomicCMPXCHG && i.Width() == 4 {
			insertBehind(u, pc, bpf.Insn{Op: bpf.ClassALU | bpf.AluMOV | bpf.SrcX})
			any = true
		}
	}
	return u, any
}

// insertBehind puts an instruction behind pc; jumps go where they went.
func insertBehind(u *bpf.Unit, pc int, more bpf.Insn) {
	moved := func(at int) int {
		if at > pc {
			return at + 1
		}
		return at
	}
	for at, i := range u.Insns {
		t, ok := i.Target(at)
		if !ok {
			continue
		}
		by := (moved(t) - moved(at)) - (t - at)
		if i.IsLocalCall() || i.Op == bpf.OpJA32 {
			u.Insns[at].Imm += int32(by)
		} else {
			u.Insns[at].Off += int16(by)
		}
	}
	u.Insns = slices.Insert(u.Insns, pc+1, more)
	u.OnFault, u.OnFuel = moved(u.OnFault), moved(u.OnFuel)
}

// compareRuns runs a program both ways on a few calls.
func compareRuns(t *testing.T, seed uint64, u *bpf.Unit, p *Program, prog *ebpf.Program, r *rand.Rand) int {
	t.Helper()
	if clear, any := extended(u); any {
		if other, _ := kernelProgram(t, clear); other != nil {
			defer other.Close()
			prog = other
		}
	}
	u = cloneUnit(u)
	u.Fuel = 1 << 31 // the kernel has none
	in := &bpf.Interp{Unit: u, Symbols: make([]uint64, len(u.Symbols)), Charge: p.Fuel}
	const calls = 10
	for range calls {
		f := randomFrame(r)
		want, err := in.Run(f)
		if err != nil {
			t.Fatalf("seed %d: interpreter: %v\n%s", seed, err, listing(u))
		}
		out := make([]byte, bpf.FrameSize)
		ret, err := prog.Run(&ebpf.RunOptions{Context: contextOf(f), ContextOut: out})
		if err != nil {
			t.Fatalf("seed %d: running in the kernel: %v", seed, err)
		}
		word := binary.LittleEndian.Uint64(out[bpf.FrameResult:])
		if bpf.Verdict(ret) != want.Verdict || word != want.Words[0] {
			t.Fatalf("seed %d: call %+v: the kernel says %#x, %#x; the interpreter %#x, %#x\n%s",
				seed, f, ret, word, uint32(want.Verdict), want.Words[0], listing(u))
		}
	}
	return calls
}

func reasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return string(e.Reason)
	}
	return err.Error()
}

// kernelReason is the last line of the kernel's log that is not a statistic,
// without numbers.
func kernelReason(err error) string {
	var refused *ebpf.VerifierError
	if !errors.As(err, &refused) {
		return digits.ReplaceAllString(err.Error(), "N")
	}
	for _, line := range slices.Backward(refused.Log) {
		if !strings.HasPrefix(line, "processed ") && !strings.HasPrefix(line, "verification time") && line != "" {
			return digits.ReplaceAllString(line, "N")
		}
	}
	return err.Error()
}

var digits = regexp.MustCompile(`-?(0x[0-9a-f]+|[0-9]+)`)

func TestKernelAgrees(t *testing.T) {
	if !needKernel(t) {
		return
	}
	both, runs := 0, 0
	classes := map[string]int{}
	first := firstSeed(t)
	for k := range uint64(rounds(t, 200)) {
		seed := first + k
		r := rand.New(rand.NewPCG(seed, 7))
		u := (&generator{r: r, plain: true}).unit()
		p, err := Verify(u)
		prog, refused := kernelProgram(t, u)
		switch {
		case err != nil && prog != nil:
			classes["only the kernel accepts: "+reasonOf(err)]++
		case err == nil && prog == nil:
			classes["only PIE accepts: "+kernelReason(refused)]++
		case prog != nil:
			both++
			runs += compareRuns(t, seed, u, p, prog, r)
		}
		if prog != nil {
			prog.Close()
		}
	}
	t.Logf("%d programs accepted by both, %d runs compared", both, runs)
	for _, c := range slices.Sorted(maps.Keys(classes)) {
		t.Logf("%4d %s", classes[c], c)
	}
	if both == 0 {
		t.Error("no program was accepted by both")
	}
}

// TestCompareExchange: behind a 32-bit cmpxchg that succeeds the upper half of r0 is 0. The
// kernel (6.18.44) keeps it in this program, and clears it when the program says so.
func TestCompareExchange(t *testing.T) {
	insns, err := bpf.Assemble(`
		ldxdw %r0, [%r1+24]
		ldxdw %r2, [%r1+56]
		ldxdw %r4, [%r1+8]
		ldxdw %r6, [%r1+0]
		stxdw [%r10-16], %r0
		jlt32 %r6, 1859134271, +1
		mov %r1, %r1
		lock cmpxchg32 [%r10-16], %r2
		jne %r6, %r4, +2
		mov %r4, %r4
		lock xchg32 [%r10-16], %r0
		stxdw [%r1+128], %r0
		mov %r0, 0
		exit`)
	if err != nil {
		t.Fatal(err)
	}
	u := &bpf.Unit{Name: "exchange", Insns: insns, OnFault: len(insns) - 2, OnFuel: len(insns) - 2}
	p, err := Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	f := bpf.Frame{Args: [bpf.FrameArgs]uint64{0: 1<<60 + 1, 1: 163, 3: 1<<48 + 1, 7: 112}}
	got, err := (&bpf.Interp{Unit: u, Charge: p.Fuel}).Run(f)
	if err != nil || got.Words[0] != 1 {
		t.Errorf("r0 is %#x, %v; want 1", got.Words[0], err)
	}
	if !needKernel(t) {
		return
	}
	clear, _ := extended(u)
	for _, u := range []*bpf.Unit{u, clear} {
		prog, refused := kernelProgram(t, u)
		if prog == nil {
			t.Fatal(refused)
		}
		defer prog.Close()
		out := make([]byte, bpf.FrameSize)
		if _, err := prog.Run(&ebpf.RunOptions{Context: contextOf(f), ContextOut: out}); err != nil {
			t.Fatal(err)
		}
		word := binary.LittleEndian.Uint64(out[bpf.FrameResult:])
		t.Logf("the kernel, of %d instructions: %#x", len(u.Insns), word)
		if u == clear && word != 1 {
			t.Errorf("the kernel says %#x where the extension is written out", word)
		}
	}
}
