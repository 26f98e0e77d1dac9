package bpf_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

const textAt = 0x7f0000001000

// guard assembles a program whose last two instructions reject with fault, or
// pass when fuel ends.
func guard(t *testing.T, text string) *bpf.Unit {
	t.Helper()
	insns, err := bpf.Assemble(text + `
fault:
	mov %r0, 1
	exit
fuel:
	mov %r0, 0
	exit`)
	if err != nil {
		t.Fatal(err)
	}
	return &bpf.Unit{
		Insns: insns, OnFault: len(insns) - 4, OnFuel: len(insns) - 2,
		Rodata: []byte("*needle"), Symbols: []bpf.Symbol{{Name: "text"}},
	}
}

// interp runs a guard with the text "GET /a*b*c" and its NUL in memory.
func interp(u *bpf.Unit) *bpf.Interp {
	return &bpf.Interp{
		Unit: u, Memory: &block{at: textAt, bytes: []byte("GET /a*b*c\x00")},
		Symbols: []uint64{textAt}, Tid: 41, Now: 1234,
	}
}

func TestGuards(t *testing.T) {
	long := strings.Repeat("mov %r2, 0\n", 3)
	tests := []struct {
		name, text string
		args       []uint64
		want       bpf.Result // Fuel and Steps are not compared unless set
	}{
		{"pass", "mov %r0, 0\nexit", nil, bpf.Result{}},
		{"argument as the result", "ldxdw %r2, [%r1+16]\nstxdw [%r1+136], %r2\nstdw [%r1+128], 0\nmov %r0, 0x201\nexit",
			[]uint64{1, 2, 3}, bpf.Result{Verdict: bpf.Reject(2, 0), Words: [9]uint64{0, 3}}},
		{"errno and double", "stdw [%r1+208], 22\nstdw [%r1+200], 1\nlddw %r0, 0x30001\nexit",
			nil, bpf.Result{Verdict: bpf.Reject(0, bpf.VerdictErrno|bpf.VerdictXMM0), Errno: 22, XMM0: 1}},
		{"log", "stdw [%r1+216], 7\nmov %r0, 2\nexit", nil, bpf.Result{Verdict: bpf.VerdictLog, Code: 7}},
		{"stack pointer and return address", "ldxdw %r2, [%r1+72]\nldxdw %r3, [%r1+80]\nstxdw [%r1+128], %r2\nstxdw [%r1+136], %r3\nmov %r0, 0x201\nexit",
			nil, bpf.Result{Verdict: bpf.Reject(2, 0), Words: [9]uint64{0x7ffc0000, 0x401000}}},
		{"reads memory", "ldxdw %r2, [%r1+0]\nldxb %r2, [%r2+4]\nstxdw [%r1+128], %r2\nmov %r0, 0x101\nexit",
			[]uint64{textAt}, bpf.Result{Verdict: bpf.Reject(1, 0), Words: [9]uint64{'/'}}},
		{"null", "ldxdw %r2, [%r1+0]\nldxb %r2, [%r2+4]\nmov %r0, 0\nexit", nil, bpf.Result{Verdict: 1, Faulted: true}},
		{"just below what can be mapped", "ldxdw %r2, [%r1+0]\nldxb %r2, [%r2+0]\nmov %r0, 0\nexit",
			[]uint64{0xffff}, bpf.Result{Verdict: 1, Faulted: true}},
		{"not canonical", "ldxdw %r2, [%r1+0]\nldxdw %r2, [%r2+0]\nmov %r0, 0\nexit",
			[]uint64{1<<47 - 4}, bpf.Result{Verdict: 1, Faulted: true}},
		{"over the end", "ldxdw %r2, [%r1+0]\nldxdw %r2, [%r2+8]\nmov %r0, 0\nexit",
			[]uint64{textAt}, bpf.Result{Verdict: 1, Faulted: true}},
		{"a fault forgets what was stored", "stdw [%r1+128], 5\nldxdw %r2, [%r1+0]\nldxb %r2, [%r2+0]\nmov %r0, 0\nexit",
			nil, bpf.Result{Verdict: 1, Words: [9]uint64{5}, Faulted: true}},
		{"symbol", "lddw %r2, symbol 0\nldxb %r2, [%r2+0]\nstxdw [%r1+128], %r2\nmov %r0, 0x101\nexit",
			nil, bpf.Result{Verdict: bpf.Reject(1, 0), Words: [9]uint64{'G'}}},
		{"rodata", "lddw %r2, rodata 1\nldxb %r2, [%r2+0]\nstxdw [%r1+128], %r2\nmov %r0, 0x101\nexit",
			nil, bpf.Result{Verdict: bpf.Reject(1, 0), Words: [9]uint64{'n'}}},
		{"endless loop", "loop:\n" + long + "ja loop\nmov %r0, 0\nexit", nil, bpf.Result{OutOfFuel: true, Fuel: bpf.FuelDefault}},
		{"forward jumps cost nothing", "ja over\nback:\nmov %r0, 0\nexit\nover:\nja back", nil, bpf.Result{Fuel: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f bpf.Frame
			copy(f.Args[:], tt.args)
			f.SP, f.Return = 0x7ffc0000, 0x401000
			got, err := interp(guard(t, tt.text)).Run(f)
			if err != nil {
				t.Fatal(err)
			}
			got.Steps = 0
			if tt.want.Fuel == 0 {
				got.Fuel = 0
			}
			if got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestHelpers(t *testing.T) {
	const pass, fault = false, true
	tests := []struct {
		name, call string
		r          [4]uint64 // r1–r4; rodata is 0 and up for r3 when rodata is set
		rodata     bool
		want       int64
		fuel       uint32
		faults     bool
	}{
		{"count", "count", [4]uint64{textAt, 11, '*'}, false, 2, 1, pass},
		{"count looks at the low byte", "count", [4]uint64{textAt, 11, 0x100 | '*'}, false, 2, 1, pass},
		{"count of nothing", "count", [4]uint64{0, 0, '*'}, false, 0, 0, pass},
		{"count over the end", "count", [4]uint64{textAt, 12, '*'}, false, 0, 1, fault},
		{"count of a negative length", "count", [4]uint64{textAt, ^uint64(0), '*'}, false, 0, 0, fault},
		{"count of too much", "count", [4]uint64{textAt, bpf.MaxLength + 1, '*'}, false, 0, 0, fault},
		{"index", "index", [4]uint64{textAt, 11, '*'}, false, 6, 1, pass},
		{"index stops where it finds", "index", [4]uint64{textAt, bpf.MaxLength, '*'}, false, 6, 1, pass},
		{"index of what is not there", "index", [4]uint64{textAt, 11, '!'}, false, -1, 1, pass},
		{"strlen", "strlen", [4]uint64{textAt, 4096}, false, 10, 1, pass},
		{"strlen cut off", "strlen", [4]uint64{textAt, 4}, false, 4, 1, pass},
		{"strlen of null", "strlen", [4]uint64{0, 4}, false, 0, 1, fault},
		{"find", "find", [4]uint64{textAt, 11, textAt + 6, 3}, false, 6, 2, pass},
		{"find a constant", "find", [4]uint64{textAt, 11, 0, 1}, true, 6, 1, pass},
		{"find pays for each begin", "find", [4]uint64{textAt, 11, 0, 3}, true, -1, 3, pass},
		{"find what is longer", "find", [4]uint64{textAt, 2, textAt, 3}, false, -1, 0, pass},
		{"find nothing", "find", [4]uint64{textAt, 2, textAt, 0}, false, 0, 0, fault},
		{"equal", "equal", [4]uint64{textAt, 5, textAt, 5}, false, 1, 1, pass},
		{"equal differs", "equal", [4]uint64{textAt, 5, textAt + 1, 5}, false, 0, 1, pass},
		{"equal lengths differ, nothing is read", "equal", [4]uint64{0, 5, 0, 6}, false, 0, 0, pass},
		{"equal in nothing", "equal", [4]uint64{0, 0, 0, 0}, false, 1, 0, pass},
		{"tid", "tid", [4]uint64{}, false, 41, 0, pass},
		{"now", "now", [4]uint64{}, false, 1234, 0, pass},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			third := "ldxdw %r3, [%r6+16]\n"
			if tt.rodata {
				third = "lddw %r3, rodata 0\n"
			}
			u := guard(t, "mov %r6, %r1\nldxdw %r1, [%r6+0]\nldxdw %r2, [%r6+8]\n"+third+
				"ldxdw %r4, [%r6+24]\ncall "+tt.call+"\nstxdw [%r6+128], %r0\nmov %r0, 0x101\nexit")
			var f bpf.Frame
			copy(f.Args[:], tt.r[:])
			got, err := interp(u).Run(f)
			if err != nil {
				t.Fatal(err)
			}
			if got.Faulted != tt.faults || got.Fuel != tt.fuel || !tt.faults && int64(got.Words[0]) != tt.want {
				t.Errorf("r0 %d, fuel %d, fault %v; want %d, %d, %v", int64(got.Words[0]), got.Fuel, got.Faulted, tt.want, tt.fuel, tt.faults)
			}
		})
	}
}

func TestViolations(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"register never written", "mov %r0, %r3\nexit", "reads r3"},
		{"stack never written", "ldxdw %r0, [%r10-8]\nexit", "was not written"},
		{"stack half written", "stw [%r10-8], 0\nldxdw %r0, [%r10-8]\nexit", "r10-4"},
		{"above the stack", "stdw [%r10+0], 0\nexit", "outside the stack"},
		{"below the stack", "stb [%r10-513], 0\nexit", "outside the stack"},
		{"store to the target", "ldxdw %r2, [%r1+0]\nstb [%r2+0], 0\nexit", "to the target"},
		{"store to rodata", "lddw %r2, rodata 0\nstb [%r2+0], 0\nexit", "writes to a rodata address"},
		{"rodata over its end", "lddw %r2, rodata 6\nldxh %r2, [%r2+0]\nexit", "of rodata"},
		{"half a frame word", "ldxw %r2, [%r1+0]\nexit", "of the frame"},
		{"argument written", "stdw [%r1+0], 0\nexit", "writes offset 0 of the frame"},
		{"result read", "ldxdw %r2, [%r1+128]\nexit", "reads offset 128 of the frame"},
		{"address as a result", "stxdw [%r1+128], %r10\nexit", "a stack address"},
		{"address multiplied", "mov %r2, %r10\nmul %r2, 2\nexit", "computes with"},
		{"address compared with a number", "jgt %r10, 5, +0\nexit", "compares"},
		{"part of an address", "stxdw [%r10-8], %r10\nldxw %r2, [%r10-8]\nexit", "reads part of"},
		{"address as verdict", "mov %r0, %r10\nexit", "in r0"},
		{"no verdict", "mov %r0, 3\nexit", "no verdict"},
		{"result not stored", "mov %r0, 0x101\nexit", "result word 0"},
		{"errno not stored", "lddw %r0, 0x20001\nexit", "not stored"},
		{"frame given to a helper", "mov %r2, 4\nmov %r3, 0\ncall count\nexit", "of the frame"},
		{"unknown helper", "call 99\nexit", "helper 99"},
		{"r10 written", "mov %r10, 0\nexit", "writes register r10"},
		{"recursion", "f:\ncall local f\nexit", "functions deep"},
		{"stack of a function that ended", "mov %r1, %r10\ncall local f\nldxdw %r2, [%r10-8]\nexit\nf:\nstxdw [%r1-8], %r10\nmov %r0, 0\nexit", "was not written"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := interp(guard(t, tt.text)).Run(bpf.Frame{Args: [9]uint64{textAt}})
			var v *bpf.Violation
			if !errors.As(err, &v) || !strings.Contains(v.Msg, tt.want) {
				t.Errorf("error %v, want a violation with %q", err, tt.want)
			}
		})
	}
}

// TestLandingBlocksMustNotFault: a second fault is a violation, not a loop.
func TestLandingBlocksMustNotFault(t *testing.T) {
	u := guard(t, "ldxdw %r2, [%r1+0]\nldxb %r2, [%r2+0]\nmov %r0, 0\nexit")
	u.OnFault = 0
	_, err := interp(u).Run(bpf.Frame{})
	var v *bpf.Violation
	if !errors.As(err, &v) {
		t.Errorf("error %v, want a violation", err)
	}
}

func TestChargedBackEdgesOnly(t *testing.T) {
	u := guard(t, "mov %r0, 0\nmov %r2, 10\nloop:\nsub %r2, 1\njne %r2, 0, loop\nexit")
	in := interp(u)
	in.Charge = func(pc int) uint32 { return 0 }
	if res, err := in.Run(bpf.Frame{}); err != nil || res.Fuel != 0 {
		t.Errorf("fuel %d, %v; want 0", res.Fuel, err)
	}
	in.Charge = nil
	if res, err := in.Run(bpf.Frame{}); err != nil || res.Fuel != 9 {
		t.Errorf("fuel %d, %v; want 9", res.Fuel, err)
	}
}

// FuzzInterp: no program makes the interpreter crash or run on.
func FuzzInterp(f *testing.F) {
	for _, tt := range encodings {
		f.Add(tt.bytes, 0)
	}
	f.Fuzz(func(t *testing.T, b []byte, landing int) {
		insns, err := bpf.Decode(b)
		if err != nil {
			return
		}
		u := &bpf.Unit{Insns: insns, OnFault: landing, OnFuel: landing, Rodata: []byte("rodata"), Symbols: []bpf.Symbol{{}}, Fuel: 100}
		in := interp(u)
		in.MaxSteps = 10_000
		res, err := in.Run(bpf.Frame{Args: [9]uint64{textAt, 11}})
		var v *bpf.Violation
		if err != nil && !errors.As(err, &v) {
			t.Errorf("error %v is no violation", err)
		}
		if err == nil && !res.Verdict.Legal() {
			t.Errorf("ended with %#x", uint32(res.Verdict))
		}
	})
}
