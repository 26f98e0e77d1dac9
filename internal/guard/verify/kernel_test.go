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

// compareRuns runs a program both ways on a few calls.
func compareRuns(t *testing.T, seed uint64, u *bpf.Unit, p *Program, prog *ebpf.Program, r *rand.Rand) int {
	t.Helper()
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
