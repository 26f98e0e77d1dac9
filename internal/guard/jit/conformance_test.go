package jit

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// suite is where the public conformance suite lies when it is beside the
// repository; bpf's own vectors have the same format.
const (
	suite      = "../../../../shared/conformance/bpf_conformance/tests"
	ownVectors = "../bpf/testdata/vectors"
)

// plain is a program of the conformance suite dressed as a guard. The suite hands
// memory in r1 and its length in r2, and takes r0 at exit for the result: two
// instructions in front load argument words 0 and 1, and exits lead to a store of
// the first result word and a reject.
type plain struct {
	guess
	result int // index of that store
}

func dress(insns []bpf.Insn) plain {
	main := len(insns)
	for i, in := range insns {
		if t, _ := in.Target(i); in.IsLocalCall() {
			main = min(main, t)
		}
	}
	all := []bpf.Insn{
		{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R2, Src: bpf.R1, Off: 8},
		{Op: bpf.ClassLDX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R1, Src: bpf.R1},
	}
	end := len(insns) + 2
	for i, in := range insns {
		if in.Op == bpf.OpEXIT && i < main {
			in = bpf.Insn{Op: bpf.OpJA, Off: int16(end - (i + 2) - 1)}
		}
		all = append(all, in)
	}
	all = append(all,
		bpf.Insn{Op: bpf.ClassSTX | bpf.SizeDW | bpf.ModeMEM, Dst: bpf.R1, Src: bpf.R0, Off: bpf.FrameResult},
		bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Imm: int32(bpf.Reject(1, 0))},
		bpf.Insn{Op: bpf.OpEXIT},
	)
	return plain{guess{&bpf.Unit{Name: "vector", Insns: all, OnFault: end + 1, OnFuel: end + 1}}, end}
}

func (p plain) Access(i int) verify.Access {
	in := p.u.Insns[i]
	switch {
	case i < 2 || i == p.result:
		return verify.Access{Region: verify.RegionFrame, Offset: int(in.Off), Known: true}
	case in.IsLoad() || in.IsStore():
		return verify.Access{Region: verify.RegionStack}
	}
	return verify.Access{}
}

func (p plain) FaultPoint(int) bool { return false }

func (p plain) Fuel(int) uint32 { return 0 }
func (p plain) Same(int) bool   { return false }

func (p plain) Stack() int { return 8 * bpf.StackSize }

func (p plain) StackOf(int) int { return bpf.StackSize }

func (p plain) Verdicts() []bpf.Verdict { return []bpf.Verdict{bpf.Reject(1, 0)} }

// vector reads a file of the suite: sections that begin with `-- name`.
func vector(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	v, section := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok {
			section = name
			v[section] += ""
			continue
		}
		if section != "asm" {
			line, _, _ = strings.Cut(line, "#")
			line += "\n"
		}
		v[section] += line
	}
	return v
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestConformance runs the vectors as machine code.
func TestConformance(t *testing.T) {
	names, err := filepath.Glob(ownVectors + "/*.data")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(suite); errors.Is(err, os.ErrNotExist) {
		t.Log("the public suite is not beside the repository; only the project's own vectors run")
	} else if public, err := filepath.Glob(suite + "/*.data"); err != nil || len(public) < 300 {
		t.Fatalf("%d vectors in %s (%v)", len(public), suite, err)
	} else {
		names = append(names, public...)
	}
	m := newMachine(t)
	ran := 0
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".data"), func(t *testing.T) {
			m.t = t
			if runVector(t, m, vector(t, name)) {
				ran++
			}
		})
	}
	t.Logf("%d of %d vectors ran; the others call the suite's own helpers", ran, len(names))
	if ran < len(names)*9/10 {
		t.Errorf("only %d of %d vectors ran", ran, len(names))
	}
}

// runVector reports false for a vector that calls a helper of the suite.
func runVector(t *testing.T, m *machine, v map[string]string) bool {
	var insns []bpf.Insn
	var err error
	if text, ok := v["asm"]; ok {
		insns, err = bpf.Assemble(text)
	} else {
		insns, err = bpf.Decode(unhex(t, v["raw"]))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range insns {
		if in.IsHelperCall() || in.Op == bpf.OpCALLX {
			return false
		}
	}
	want, err := strconv.ParseUint(strings.TrimSpace(v["result"]), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	mem := unhex(t, v["mem"])
	for _, free := range []amd64.RegSet{0, amd64.Set(amd64.RAX, amd64.RCX, amd64.R8, amd64.R9, amd64.R10, amd64.R11)} {
		l := m.layout()
		m.place(compileUnit(t, dress(insns), Site{Free: free}, l), l, ModeEnforce)
		m.poke(dataAt, mem)
		in := filled(0)
		in.GPR[amd64.RDI], in.GPR[amd64.RSI] = uint64(dataAt), uint64(len(mem))
		m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
		outcome, out := m.call(l.Code, in)
		if outcome != hasReturned || out.GPR[amd64.RAX] != want {
			t.Errorf("outcome %d, r0 = %#x, want %#x", outcome, out.GPR[amd64.RAX], want)
		}
	}
	return true
}
