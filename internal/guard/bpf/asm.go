package bpf

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// SyntaxError is a line that Assemble cannot read.
type SyntaxError struct {
	Line int // from 1
	Text string
	Msg  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("assembler line %d: %s: %q", e.Line, e.Msg, e.Text)
}

// Assemble translates text in the syntax of the public conformance suite, one
// instruction a line: `add %r1, 5`, `jne32 %r0, %r2, label`, `ldxdw %r1,
// [%r10-8]`, `lock fetch add [%r10-8], %r1`, `call local f`. A label is a line
// `name:`; `exit` without one is the instruction exit at the end; a jump also
// takes a distance, `+2`. From # or ; to the end of a line
// is comment. `lddw %r1, symbol 0` and `lddw %r1, rodata 16` are PIE's own, and
// a helper may be called by its name. Errors are *SyntaxError.
func Assemble(text string) ([]Insn, error) {
	a := &assembler{labels: map[string]int{}}
	for n, line := range strings.Split(text, "\n") {
		a.line, a.text = n+1, strings.TrimSpace(line)
		if err := a.readLine(); err != nil {
			return nil, err
		}
	}
	if err := a.resolve(); err != nil {
		return nil, err
	}
	return a.insns, nil
}

// A reference is a jump or call whose label is looked up at the end.
type reference struct {
	pc    int
	label string
	line  int
	text  string
}

type assembler struct {
	insns  []Insn
	labels map[string]int
	refs   []reference
	line   int
	text   string
}

var mnemonics = sync.OnceValue(forms)

var labelPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_.][A-Za-z0-9_.]*$`) })

func (a *assembler) errorf(format string, args ...any) error {
	return &SyntaxError{Line: a.line, Text: a.text, Msg: fmt.Sprintf(format, args...)}
}

func (a *assembler) readLine() error {
	line := a.text
	if k := strings.IndexAny(line, "#;"); k >= 0 {
		line = strings.TrimSpace(line[:k])
	}
	if name, ok := strings.CutSuffix(line, ":"); ok {
		if !labelPattern().MatchString(name) {
			return a.errorf("not a label")
		}
		if _, ok := a.labels[name]; ok {
			return a.errorf("label %s is defined twice", name)
		}
		a.labels[name] = len(a.insns)
		return nil
	}
	if line == "" {
		return nil
	}
	name, rest, _ := strings.Cut(line, " ")
	if name == "lock" {
		return a.atomic(strings.Fields(rest))
	}
	f, ok := mnemonics()[name]
	if !ok {
		return a.errorf("unknown mnemonic %s", name)
	}
	return a.instruction(f, operands(rest))
}

// operands splits at commas.
func operands(s string) []string {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	ops := strings.Split(s, ",")
	for k := range ops {
		ops[k] = strings.TrimSpace(ops[k])
	}
	return ops
}

// shapeSizes is how many operands a shape takes.
var shapeSizes = [...]int{
	shapeNone: 0, shapeDst: 1, shapeRegs: 2, shapeALU: 2, shapeJump: 1, shapeCompare: 3,
	shapeLoad: 2, shapeStore: 2, shapeStoreReg: 2, shapeWide: 2, shapeCall: 1,
}

func (a *assembler) instruction(f form, ops []string) (err error) {
	if len(ops) != shapeSizes[f.shape] {
		return a.errorf("takes %d operands, not %d", shapeSizes[f.shape], len(ops))
	}
	i := f.insn
	switch f.shape {
	case shapeDst:
		i.Dst, err = a.register(ops[0])
	case shapeRegs:
		i.Dst, i.Src, err = a.registers(ops[0], ops[1])
	case shapeALU:
		err = a.twoOperands(&i, ops)
	case shapeJump:
		err = a.jumpTo(&i, ops[0])
	case shapeCompare:
		if err = a.twoOperands(&i, ops); err == nil {
			err = a.jumpTo(&i, ops[2])
		}
	case shapeLoad:
		if i.Dst, err = a.register(ops[0]); err == nil {
			i.Src, i.Off, err = a.address(ops[1])
		}
	case shapeStore:
		if i.Dst, i.Off, err = a.address(ops[0]); err == nil {
			i.Imm, err = a.immediate(ops[1])
		}
	case shapeStoreReg:
		if i.Dst, i.Off, err = a.address(ops[0]); err == nil {
			i.Src, err = a.register(ops[1])
		}
	case shapeWide:
		return a.wide(ops)
	case shapeCall:
		err = a.call(&i, ops[0])
	}
	if err != nil {
		return err
	}
	a.insns = append(a.insns, i)
	return nil
}

// twoOperands reads a register, and a register or immediate.
func (a *assembler) twoOperands(i *Insn, ops []string) (err error) {
	if i.Dst, err = a.register(ops[0]); err != nil {
		return err
	}
	if isRegister(ops[1]) {
		i.Op |= SrcX
		i.Src, err = a.register(ops[1])
		return err
	}
	i.Imm, err = a.immediate(ops[1])
	return err
}

func (a *assembler) registers(dst, src string) (d, s uint8, err error) {
	if d, err = a.register(dst); err == nil {
		s, err = a.register(src)
	}
	return d, s, err
}

func isRegister(s string) bool {
	return strings.HasPrefix(s, "%") || len(s) > 1 && s[0] == 'r' && s[1] >= '0' && s[1] <= '9'
}

func (a *assembler) register(s string) (uint8, error) {
	digits, ok := strings.CutPrefix(strings.TrimPrefix(s, "%"), "r")
	n, err := strconv.ParseUint(digits, 10, 8)
	if !ok || err != nil || n >= NumRegs {
		return 0, a.errorf("%s is not a register r0 to r10", s)
	}
	return uint8(n), nil
}

// immediate reads a signed decimal, or 32 bits in hexadecimal.
func (a *assembler) immediate(s string) (int32, error) {
	v, err := strconv.ParseInt(s, 0, 64)
	hex := strings.HasPrefix(strings.TrimPrefix(s, "-"), "0x")
	if err != nil || strings.Contains(s, "_") {
		return 0, a.errorf("%s is not a number", s)
	}
	if v < math.MinInt32 || v > math.MaxUint32 || v > math.MaxInt32 && !hex {
		return 0, a.errorf("%s does not fit 32 bits", s)
	}
	return int32(uint32(v)), nil
}

var addressPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\[\s*(%?r\d+)\s*([+-]\s*[0-9a-zA-Z]+)?\s*\]$`) })

// address reads [%r1], [%r1+8].
func (a *assembler) address(s string) (reg uint8, off int16, err error) {
	m := addressPattern().FindStringSubmatch(s)
	if m == nil {
		return 0, 0, a.errorf("%s is not an address like [%%r1+8]", s)
	}
	if reg, err = a.register(m[1]); err != nil || m[2] == "" {
		return reg, 0, err
	}
	v, err := strconv.ParseInt(strings.Join(strings.Fields(m[2]), ""), 0, 64)
	if err != nil || v < math.MinInt16 || v > math.MaxInt16 {
		return 0, 0, a.errorf("offset %s does not fit 16 bits", m[2])
	}
	return reg, int16(v), nil
}

// jumpTo reads a label, or a distance with its sign.
func (a *assembler) jumpTo(i *Insn, s string) error {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		v, err := strconv.ParseInt(s, 0, 32)
		if err != nil || !setDistance(i, v) {
			return a.errorf("%s is too far to jump", s)
		}
		return nil
	}
	a.refs = append(a.refs, reference{pc: len(a.insns), label: s, line: a.line, text: a.text})
	return nil
}

// setDistance stores how far a jump or local call goes, where it is encoded.
func setDistance(i *Insn, v int64) bool {
	if i.Op == OpJA32 || i.Op == OpCALL {
		i.Imm = int32(v)
		return v == int64(i.Imm)
	}
	i.Off = int16(v)
	return v == int64(i.Off)
}

func (a *assembler) resolve() error {
	for _, r := range a.refs {
		a.line, a.text = r.line, r.text
		pc, ok := a.labels[r.label]
		if last := len(a.insns) - 1; !ok && r.label == "exit" && a.insns[last].Op == OpEXIT {
			pc, ok = last, true
		}
		if !ok {
			return a.errorf("no label %s", r.label)
		}
		if !setDistance(&a.insns[r.pc], int64(pc-r.pc-1)) {
			return a.errorf("label %s is too far", r.label)
		}
	}
	return nil
}

func (a *assembler) call(i *Insn, s string) (err error) {
	if label, ok := strings.CutPrefix(s, "local "); ok {
		i.Src = CallLocal
		return a.jumpTo(i, strings.TrimSpace(label))
	}
	if isRegister(s) {
		i.Op = OpCALLX
		i.Dst, err = a.register(s)
		return err
	}
	for h, name := range helperNames {
		if name == s && name != "" {
			i.Imm = int32(h)
			return nil
		}
	}
	i.Imm, err = a.immediate(s)
	return err
}

// wide reads lddw: a 64-bit number, or an index of what a pseudo source names.
func (a *assembler) wide(ops []string) error {
	dst, err := a.register(ops[0])
	if err != nil {
		return err
	}
	number := ops[1]
	var pseudo uint8
	for src, name := range pseudoNames {
		if rest, ok := strings.CutPrefix(number, name+" "); ok {
			pseudo, number = src, strings.TrimSpace(rest)
		}
	}
	v, err := strconv.ParseUint(number, 0, 64)
	if s, serr := strconv.ParseInt(number, 0, 64); err != nil && serr == nil {
		v, err = uint64(s), nil
	}
	if err != nil || strings.Contains(number, "_") {
		return a.errorf("%s is not a 64-bit number", number)
	}
	slots := LoadImm64(dst, v)
	slots[0].Src = pseudo
	a.insns = append(a.insns, slots[:]...)
	return nil
}

// atomic reads what follows lock: [fetch] add [%r10-8], %r1.
func (a *assembler) atomic(words []string) error {
	fetch := len(words) > 0 && words[0] == "fetch"
	if fetch {
		words = words[1:]
	}
	if len(words) == 0 {
		return a.errorf("lock takes an operation")
	}
	name, narrow := strings.CutSuffix(words[0], "32")
	for op, s := range atomicNames {
		if s != name {
			continue
		}
		i := Insn{Op: ClassSTX | ModeATOMIC | SizeDW, Imm: op}
		if narrow {
			i.Op = ClassSTX | ModeATOMIC | SizeW
		}
		if fetch {
			i.Imm |= AtomicFetch
		}
		return a.instruction(form{i, shapeStoreReg}, operands(strings.Join(words[1:], " ")))
	}
	return a.errorf("unknown atomic operation %s", words[0])
}
