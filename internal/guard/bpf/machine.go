package bpf

import (
	"errors"
	"fmt"
)

// Conditions that leave the straight course of a run.
var (
	errFault = errors.New("a read of the target faults")
	errFuel  = errors.New("fuel has ended")
	errExit  = errors.New("exit")
	errAudit = errors.New("a guard that only counts calls no function")
)

// MaxDepth is how many functions can be active at once, the first included.
const MaxDepth = 8

// An activation is what a local call keeps for its return.
type activation struct {
	ret   int
	saved [4]Value // r6–r9
}

// A machine is one run of the interpreter.
type machine struct {
	in     *Interp
	frame  Frame
	pc     int
	regs   [NumRegs]Value
	stacks []*stack
	calls  []activation
	stored [FrameSize / 8]bool
	res    Result
	fuel   uint32
	landed bool
}

func newMachine(in *Interp, f Frame) *machine {
	m := &machine{in: in, frame: f, fuel: in.Unit.Fuel}
	if m.fuel == 0 {
		m.fuel = FuelDefault
	}
	m.enter(0)
	if in.plain != nil {
		m.regs[R1], m.regs[R2] = scalar(in.plain.regs[0]), scalar(in.plain.regs[1])
	}
	return m
}

// enter starts at pc with only r1 and r10 initialised.
func (m *machine) enter(pc int) {
	m.pc = pc
	m.calls = nil
	m.stacks = []*stack{new(stack)}
	m.stored = [FrameSize / 8]bool{}
	m.regs = [NumRegs]Value{R1: {Kind: KindFrame}, R10: {Kind: KindStack}}
}

func (m *machine) run() error {
	limit := m.in.MaxSteps
	if limit == 0 {
		limit = defaultMaxSteps
	}
	for {
		if m.pc < 0 || m.pc >= len(m.in.Unit.Insns) {
			return &Violation{Insn: m.pc, Msg: "runs out of the program"}
		}
		if m.res.Steps++; m.res.Steps > limit {
			return &Violation{Insn: m.pc, Msg: fmt.Sprintf("has not ended after %d instructions", limit)}
		}
		if m.in.Trace != nil {
			m.in.Trace(m.pc, &m.regs, len(m.calls))
		}
		pc := m.pc
		err := m.step(m.in.Unit.Insns[pc])
		switch {
		case err == errExit:
			return m.conclude(pc)
		case err == errAudit:
			m.res.Withheld = true
			return nil
		case err == errFault || err == errFuel:
			if err := m.land(pc, err); err != nil {
				return err
			}
		case err != nil:
			return &Violation{Insn: pc, Msg: err.Error()}
		}
	}
}

// land continues at OnFault or OnFuel. That must not fault or loop again.
func (m *machine) land(pc int, why error) error {
	if m.in.plain != nil || m.landed {
		return &Violation{Insn: pc, Msg: why.Error()}
	}
	m.landed = true
	if why == errFault {
		m.res.Faulted = true
		m.enter(m.in.Unit.OnFault)
		return nil
	}
	m.res.OutOfFuel = true
	m.enter(m.in.Unit.OnFuel)
	return nil
}

// conclude checks the verdict in r0.
func (m *machine) conclude(pc int) error {
	r0 := m.regs[R0]
	if r0.Kind != KindScalar {
		return &Violation{Insn: pc, Msg: fmt.Sprintf("ends with %v in r0", r0.Kind)}
	}
	if m.in.plain != nil {
		return nil
	}
	v := Verdict(r0.Bits)
	if uint64(v) != r0.Bits || !v.Legal() {
		return &Violation{Insn: pc, Msg: fmt.Sprintf("ends with %#x, which is no verdict", r0.Bits)}
	}
	for w := range FrameResults {
		if v.Stored()&(1<<w) != 0 && !m.stored[FrameResult/8+w] {
			return &Violation{Insn: pc, Msg: fmt.Sprintf("announces result word %d, which was not stored", w)}
		}
	}
	if v.Wants()&^m.in.Unit.Caps != 0 {
		return &Violation{Insn: pc, Msg: fmt.Sprintf("ends with %#x without the capability", uint32(v))}
	}
	if v&VerdictXMM0 != 0 && !m.stored[FrameXMM0/8] || v&VerdictErrno != 0 && !m.stored[FrameErrno/8] ||
		v.Kind() == VerdictLog && !m.stored[FrameCode/8] {
		return &Violation{Insn: pc, Msg: fmt.Sprintf("announces by %#x what was not stored", uint32(v))}
	}
	m.res.Verdict = v
	return nil
}

// charge takes n units of fuel.
func (m *machine) charge(n uint32) error {
	if m.landed && n > 0 {
		return errors.New("uses fuel in a landing block")
	}
	if n > m.fuel-m.res.Fuel {
		return errFuel
	}
	m.res.Fuel += n
	return nil
}

func (m *machine) step(i Insn) error {
	switch i.Class() {
	case ClassALU, ClassALU64:
		return m.alu(i)
	case ClassJMP, ClassJMP32:
		return m.jump(i)
	case ClassLD:
		return m.loadImmediate(i)
	case ClassLDX:
		return m.load(i)
	}
	return m.store(i)
}

// read returns a register that must have been written.
func (m *machine) read(reg uint8) (Value, error) {
	if reg >= NumRegs {
		return Value{}, fmt.Errorf("names register r%d", reg)
	}
	if m.regs[reg].Kind == KindUninit {
		return Value{}, fmt.Errorf("reads r%d, which was not written", reg)
	}
	return m.regs[reg], nil
}

// write sets a register and goes on to the next instruction.
func (m *machine) write(reg uint8, v Value) error {
	if reg >= R10 {
		return fmt.Errorf("writes register r%d", reg)
	}
	m.regs[reg] = v
	m.pc = m.in.Unit.Insns[m.pc].Next(m.pc)
	return nil
}

// operand is the second operand of arithmetic and comparisons.
func (m *machine) operand(i Insn) (Value, error) {
	if i.Op&SrcX != 0 {
		return m.read(i.Src)
	}
	return scalar(uint64(int64(i.Imm))), nil
}

func (m *machine) alu(i Insn) error {
	var src, dst Value
	var err error
	op := i.Operation()
	if op != AluNEG && op != AluEND {
		if src, err = m.operand(i); err != nil {
			return err
		}
	}
	if op == AluMOV {
		dst = scalar(0)
	} else if dst, err = m.read(i.Dst); err != nil {
		return err
	}
	if dst.pointer() || src.pointer() {
		v, err := pointerALU(i, dst, src)
		if err != nil {
			return err
		}
		return m.write(i.Dst, v)
	}
	v, ok := ALU(i, dst.Bits, src.Bits)
	if !ok {
		return fmt.Errorf("opcode %#02x with offset %d and immediate %d does not exist", i.Op, i.Off, i.Imm)
	}
	return m.write(i.Dst, scalar(v))
}

// pointerALU is the arithmetic that addresses allow: copying, adding and
// subtracting numbers, and the distance of two addresses in the same memory.
func pointerALU(i Insn, dst, src Value) (Value, error) {
	if i.Class() == ClassALU64 {
		switch op := i.Operation(); {
		case op == AluMOV && i.Off == 0:
			return src, nil
		case op == AluADD && src.Kind == KindScalar:
			dst.Bits += src.Bits
			return dst, nil
		case op == AluADD && dst.Kind == KindScalar:
			src.Bits += dst.Bits
			return src, nil
		case op == AluSUB && src.Kind == KindScalar:
			dst.Bits -= src.Bits
			return dst, nil
		case op == AluSUB && dst.sameBase(src) && dst.Kind != KindFrame:
			return scalar(dst.Bits - src.Bits), nil
		}
	}
	return Value{}, fmt.Errorf("computes with %v and %v", dst.Kind, src.Kind)
}

func (m *machine) loadImmediate(i Insn) error {
	if !i.IsLDDW() || m.pc+1 >= len(m.in.Unit.Insns) {
		return fmt.Errorf("opcode %#02x does not exist", i.Op)
	}
	v := Imm64(i, m.in.Unit.Insns[m.pc+1])
	switch {
	case i.Src == 0:
		return m.write(i.Dst, scalar(v))
	case i.Src == PseudoSymbol && v < uint64(len(m.in.Unit.Symbols)):
		return m.write(i.Dst, scalar(m.in.Symbols[v]))
	case i.Src == PseudoRodata && v < uint64(len(m.in.Unit.Rodata)):
		return m.write(i.Dst, Value{Kind: KindRodata, Bits: v})
	case i.Src == PseudoState && v < uint64(m.in.Unit.State):
		return m.write(i.Dst, Value{Kind: KindState, Bits: v})
	}
	return fmt.Errorf("loads what does not exist: pseudo source %d, index %d", i.Src, v)
}

// jump runs a jump, call or exit.
func (m *machine) jump(i Insn) error {
	switch {
	case i.Op == OpEXIT:
		return m.exit()
	case i.IsHelperCall(), i.Op == OpCALLX && m.in.plain != nil:
		return m.helper(i)
	case i.IsLocalCall():
		return m.callLocal(i)
	case i.Op == OpJA, i.Op == OpJA32:
		return m.take(i)
	case !i.IsConditional():
		return fmt.Errorf("opcode %#02x does not exist", i.Op)
	}
	dst, err := m.read(i.Dst)
	if err != nil {
		return err
	}
	src, err := m.operand(i)
	if err != nil {
		return err
	}
	taken, err := compareValues(i, dst, src)
	if err != nil {
		return err
	}
	if !taken {
		m.pc++
		return nil
	}
	return m.take(i)
}

// compareValues compares numbers, addresses in the same memory, and an address
// with 0, which it never equals.
func compareValues(i Insn, dst, src Value) (bool, error) {
	if !dst.pointer() && !src.pointer() {
		return Compare(i, dst.Bits, src.Bits), nil
	}
	if i.Class() == ClassJMP && dst.Kind != KindFrame && src.Kind != KindFrame {
		op := i.Operation()
		switch {
		case dst.sameBase(src) && op != JmpSET && dst.near() && src.near():
			return compareOffsets(op, int64(dst.Bits), int64(src.Bits)), nil
		case op == JmpEQ && src == scalar(0), op == JmpEQ && dst == scalar(0):
			return false, nil
		case op == JmpNE && src == scalar(0), op == JmpNE && dst == scalar(0):
			return true, nil
		}
	}
	return false, fmt.Errorf("compares %v with %v", dst.Kind, src.Kind)
}

// compareOffsets compares two addresses in the same memory by their offsets,
// which order as the addresses do because both are near their base.
func compareOffsets(op uint8, dst, src int64) bool {
	switch op {
	case JmpGT:
		op = JmpSGT
	case JmpGE:
		op = JmpSGE
	case JmpLT:
		op = JmpSLT
	case JmpLE:
		op = JmpSLE
	}
	return Compare(Insn{Op: ClassJMP | op}, uint64(dst), uint64(src))
}

// take jumps, and pays for it when it goes back.
func (m *machine) take(i Insn) error {
	if i.IsBackEdge(m.pc) {
		units := uint32(1)
		if m.in.Charge != nil {
			units = m.in.Charge(m.pc)
		}
		if err := m.charge(units); err != nil {
			return err
		}
	}
	m.pc, _ = i.Target(m.pc)
	return nil
}

func (m *machine) callLocal(i Insn) error {
	if len(m.calls)+1 >= MaxDepth {
		return fmt.Errorf("calls more than %d functions deep", MaxDepth)
	}
	a := activation{ret: m.pc + 1}
	copy(a.saved[:], m.regs[R6:R10])
	m.calls = append(m.calls, a)
	m.stacks = append(m.stacks, new(stack))
	m.pc, _ = i.Target(m.pc)
	m.regs[R10] = Value{Kind: KindStack, Depth: int8(len(m.calls))}
	return nil
}

// exit ends a function, or the program.
func (m *machine) exit() error {
	if len(m.calls) == 0 {
		return errExit
	}
	depth := int8(len(m.calls))
	a := m.calls[depth-1]
	m.calls, m.stacks = m.calls[:depth-1], m.stacks[:depth]
	if m.regs[R0].Kind == KindStack && m.regs[R0].Depth == depth {
		return errors.New("returns an address on the stack of the function that ends")
	}
	m.dropStack(depth)
	m.pc = a.ret
	for r := R1; r <= R5; r++ {
		m.regs[r] = Value{}
	}
	copy(m.regs[R6:R10], a.saved[:])
	m.regs[R10] = Value{Kind: KindStack, Depth: depth - 1}
	return nil
}

// dropStack makes the addresses unreadable that the callers' stacks keep of
// the stack at depth, which is gone.
func (m *machine) dropStack(depth int8) {
	for _, s := range m.stacks {
		for k, v := range s.slots {
			if v.Kind == KindStack && v.Depth == depth {
				s.forget(k, 0, 0)
			}
		}
	}
}
