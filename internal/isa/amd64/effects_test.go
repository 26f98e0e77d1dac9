package amd64

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
)

// The model of effects is compared with the processor: instructions of real
// code are run one by one, with registers that the model says do not matter
// changed, and what changes is compared with what the model says may.

type request struct {
	Len   uint8
	Code  [15]byte
	Regs  [16]uint64
	Flags uint64
}

type answer struct {
	Signal uint64
	Regs   [16]uint64
	Flags  uint64
	Hash   uint64
}

// status are CF, PF, AF, ZF, SF and OF; fixed is what popfq always leaves set.
const (
	status = 0x8d5
	fixed  = 0x202

	scratch = 0x20000000
)

// machine runs instructions in a helper process.
type machine struct {
	t   *testing.T
	exe string
}

func newMachine(t *testing.T) machine {
	exe := filepath.Join(t.TempDir(), "effects")
	if out, err := exec.Command("gcc", "-O1", "-o", exe, "testdata/effects.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v (install gcc and libc6-dev)\n%s", err, out)
	}
	return machine{t, exe}
}

func (m machine) run(requests []request) []answer {
	m.t.Helper()
	var in, out bytes.Buffer
	if err := binary.Write(&in, binary.LittleEndian, requests); err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(m.exe)
	cmd.Stdin, cmd.Stdout = &in, &out
	if err := cmd.Run(); err != nil {
		m.t.Fatalf("after %d of %d instructions: %v", out.Len()/binary.Size(answer{}), len(requests), err)
	}
	answers := make([]answer, len(requests))
	if err := binary.Read(&out, binary.LittleEndian, answers); err != nil {
		m.t.Fatal(err)
	}
	return answers
}

// samples are instructions of real code that a helper can run, a few of each kind.
func samples(t *testing.T) []Inst {
	seen := map[string]int{}
	var all []Inst
	made := assembled(t)
	for _, file := range append(corpusFiles(t), made) {
		disassemble(t, file, func(d dumped) {
			i, err := Decode(d.bytes, 0)
			if file == made && (err != nil || !i.Effects().Known) {
				t.Errorf("% x: %s: not modelled, %v", d.bytes, d.text, err)
			}
			if err != nil || !runnable(i) || !i.Effects().Known {
				return
			}
			if k := kind(i); seen[k] < 2 {
				seen[k]++
				all = append(all, i)
			}
		})
	}
	return all
}

// assembled is testdata/instructions.s as an object file.
func assembled(t *testing.T) string {
	t.Helper()
	object := filepath.Join(t.TempDir(), "instructions.o")
	if out, err := exec.Command("as", "-o", object, "testdata/instructions.s").CombinedOutput(); err != nil {
		t.Fatalf("as: %v (install binutils)\n%s", err, out)
	}
	return object
}

// kind tells instructions apart whose effects are computed apart.
func kind(i Inst) string {
	e := &i.enc
	group := byte(0)
	switch {
	case e.space == spaceOne && (e.opcode >= 0x80 && e.opcode <= 0x83 || e.opcode >= 0xc0 && e.opcode <= 0xdf || e.opcode >= 0xf6),
		e.space == space0F && (e.opcode == 0xba || e.opcode == 0xae):
		group = e.modrm >> 3 & 7
	}
	same := byte(0)
	if e.isReg() && e.rm() == e.reg() {
		same = 1
	}
	mod := e.modrm >> 6
	if e.isMem() {
		mod = 0
	}
	flags := e.rex & 8
	if e.size16 {
		flags |= 1
	}
	if e.hasREX {
		flags |= 2
	}
	return string([]byte{byte(e.space), e.table, e.pp, e.rep, e.opcode, group, same, mod, flags})
}

// runnable leaves out branches, what touches rsp, and memory that is not at a
// small offset from one register.
func runnable(i Inst) bool {
	e := i.Effects()
	switch {
	case i.Flow != FlowNext, (e.Reads | e.Writes).Has(RSP):
		return false
	case (e.Loads|e.Stores)&(MemRIP|MemThread) != 0, i.enc.seg != 0, i.enc.space == spaceEVEX:
		return false
	case i.enc.space == spaceOne && i.enc.opcode >= 0xa0 && i.enc.opcode <= 0xa3: // moffs
		return false
	}
	d := i.enc.displacement()
	return !i.enc.isMem() || i.enc.base() != NoReg && d > -2048 && d < 2048
}

func TestEffectsAgainstProcessor(t *testing.T) {
	m := newMachine(t)
	instructions := samples(t)
	var requests []request
	var first []int
	rng := rand.New(rand.NewPCG(1, 2))
	for _, i := range instructions {
		first = append(first, len(requests))
		requests = append(requests, variants(i, rng)...)
	}
	first = append(first, len(requests))
	answers := m.run(requests)
	ran := 0
	for n, i := range instructions {
		if checkEffects(t, i, requests[first[n]:first[n+1]], answers[first[n]:first[n+1]]) {
			ran++
		}
	}
	t.Logf("%d of %d kinds of instruction ran", ran, len(instructions))
	if ran < len(instructions)*3/4 || ran < 500 {
		t.Error("too few ran to mean anything")
	}
}

// variants returns the instruction with one state twice, then with each
// register in turn changed, then with the flags changed.
func variants(i Inst, rng *rand.Rand) []request {
	q := request{Len: uint8(i.Len), Flags: fixed | rng.Uint64()&status}
	copy(q.Code[:], i.enc.code)
	for r := range q.Regs {
		q.Regs[r] = rng.Uint64() >> (rng.UintN(3) * 24)
	}
	for _, r := range []Reg{i.enc.base(), RSI, RDI} {
		if r != NoReg {
			q.Regs[r] = scratch + 4096 + uint64(r)*32 // aligned
		}
	}
	if x := i.enc.index(); x != NoReg && x != i.enc.base() {
		q.Regs[x] = 16
	}
	if i.enc.rep != 0 && i.enc.space == spaceOne {
		q.Regs[RCX] = 5
	}
	if i.enc.opcode == 0xf6 || i.enc.opcode == 0xf7 {
		q.Regs[RDX], q.Regs[RAX] = 0, q.Regs[RAX]&0xff
	}
	all := []request{q, q}
	for r := range q.Regs {
		v := q
		v.Regs[r] ^= 0x5a5a_5a5a_5a5a_5a5a
		all = append(all, v)
	}
	v := q
	v.Flags ^= status
	return append(all, v)
}

func checkEffects(t *testing.T, i Inst, qs []request, as []answer) bool {
	q, a := qs[0], as[0]
	if a.Signal != 0 {
		return false
	}
	e := i.Effects()
	wrong := func(format string, args ...any) {
		t.Errorf("% x: %s: "+format, append([]any{i.enc.code, i}, args...)...)
	}
	for r := range Reg(16) {
		if r != RSP && a.Regs[r] != q.Regs[r] && !e.Writes.Has(r) {
			wrong("%v changes", r)
		}
	}
	if (a.Flags^q.Flags)&status != 0 && !e.ChangesFlags {
		wrong("flags change from %#x to %#x", q.Flags, a.Flags)
	}
	if as[1] != a {
		return true // not a function of what is set here: rdtsc, cpuid
	}
	for r := range Reg(16) {
		if r == RSP || e.Reads.Has(r) {
			continue
		}
		b := as[2+r]
		if !e.Writes.Has(r) {
			b.Regs[r] = a.Regs[r]
		}
		if b.Signal != 0 || b.Regs != a.Regs || b.Hash != a.Hash || b.Flags != a.Flags {
			wrong("%v matters", r)
		}
	}
	b := as[18]
	if !e.ReadsFlags && (b.Regs != a.Regs || b.Hash != a.Hash || b.Signal != 0) {
		wrong("flags matter")
	}
	return true
}

func TestEffectsOfStack(t *testing.T) {
	for _, c := range []struct {
		code          string
		delta         int64
		known         bool
		loads, stores MemKind
	}{
		{"55", -8, true, 0, MemStack},                         // push %rbp
		{"41 57", -8, true, 0, MemStack},                      // push %r15
		{"6a 01", -8, true, 0, MemStack},                      // push $1
		{"ff 74 24 08", -8, true, MemStack, MemStack},         // push 8(%rsp)
		{"5d", 8, true, MemStack, 0},                          // pop %rbp
		{"48 83 ec 18", -24, true, 0, 0},                      // sub $0x18,%rsp
		{"48 81 ec 00 02 00 00", -512, true, 0, 0},            // sub $0x200,%rsp
		{"48 83 c4 80", -128, true, 0, 0},                     // add $-128,%rsp
		{"48 8d 64 24 f8", -8, true, 0, 0},                    // lea -8(%rsp),%rsp
		{"48 83 e4 f0", 0, false, 0, 0},                       // and $-16,%rsp
		{"48 89 ec", 0, false, 0, 0},                          // mov %rbp,%rsp
		{"c9", 0, false, MemOther, 0},                         // leave
		{"48 89 7c 24 f8", 0, true, 0, MemRed},                // mov %rdi,-8(%rsp)
		{"48 8b 44 24 08", 0, true, MemStack, 0},              // mov 8(%rsp),%rax
		{"48 8b 04 04", 0, true, MemOther, 0},                 // mov (%rsp,%rax),%rax
		{"64 48 8b 04 25 28 00 00 00", 0, true, MemThread, 0}, // mov %fs:0x28,%rax
		{"64 48 8b 00", 0, true, MemOther, 0},                 // mov %fs:(%rax),%rax
		{"80 3d 00 00 00 00 00", 0, true, MemRIP, 0},          // cmpb $0,0(%rip)
		{"48 8d 44 24 08", 0, true, 0, 0},                     // lea 8(%rsp),%rax: no access
		{"0f 1f 44 00 00", 0, true, 0, 0},                     // nopl: no access
	} {
		i, err := Decode(unhex(t, c.code), 0)
		if err != nil {
			t.Fatal(err)
		}
		e := i.Effects()
		if !e.Known || e.SPDelta != c.delta || e.SPKnown != c.known || e.Loads != c.loads || e.Stores != c.stores {
			t.Errorf("%s: %s: %+v", c.code, i, e)
		}
	}
}
