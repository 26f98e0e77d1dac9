package bpf

import (
	"errors"
	"fmt"
)

// helperNames are the assembler's names, by number.
var helperNames = [...]string{
	HelperCount: "count", HelperIndex: "index", HelperStrLen: "strlen", HelperFind: "find",
	HelperEqual: "equal", HelperTid: "tid", HelperNow: "now", HelperStackUsed: "stackused", HelperThread: "thread",
	HelperZero: "zero", HelperInvoke: "invoke",
}

// Known reports whether h is a helper of this contract.
func (h Helper) Known() bool { return h > 0 && int(h) < len(helperNames) }

// String returns the assembler's name, or the number of an unknown helper.
func (h Helper) String() string {
	if !h.Known() {
		return fmt.Sprint(int32(h))
	}
	return helperNames[h]
}

// Args returns how many of r1–r5 the helper takes.
func (h Helper) Args() int {
	switch h {
	case HelperStrLen, HelperZero, HelperInvoke:
		return 2
	case HelperCount, HelperIndex:
		return 3
	case HelperFind, HelperEqual:
		return 4
	}
	return 0
}

// helper runs a helper call; afterwards only r0 of r0–r5 can be read.
func (m *machine) helper(i Insn) error {
	v, err := m.callHelper(i)
	if err != nil {
		return err
	}
	for r := R1; r <= R5; r++ {
		m.regs[r] = Value{}
	}
	return m.write(R0, scalar(v))
}

func (m *machine) callHelper(i Insn) (uint64, error) {
	if m.in.plain != nil {
		return m.callPlain(i)
	}
	h := Helper(i.Imm)
	for r := R1; r < R1+h.Args(); r++ {
		if _, err := m.read(uint8(r)); err != nil {
			return 0, err
		}
	}
	a, n := m.regs[R1], m.regs[R2]
	switch h {
	case HelperCount, HelperIndex:
		return m.scanByte(h, a, n, m.regs[R3])
	case HelperStrLen:
		return m.scanByte(h, a, n, scalar(0))
	case HelperFind:
		return m.find(a, n, m.regs[R3], m.regs[R4])
	case HelperEqual:
		return m.equal(a, n, m.regs[R3], m.regs[R4])
	case HelperTid:
		return uint64(m.in.Tid), nil
	case HelperNow:
		return m.in.Now, nil
	case HelperStackUsed:
		return m.stackUsed()
	case HelperThread:
		return m.in.Thread, nil
	case HelperZero:
		return 0, m.zero(a, n)
	case HelperInvoke:
		return m.invoke(a, n)
	}
	return 0, fmt.Errorf("calls helper %d, which does not exist", i.Imm)
}

// stackUsed is HelperStackUsed: a stack pointer that is not on the stack is on
// one that nobody knows.
func (m *machine) stackUsed() (uint64, error) {
	used := m.in.StackEnd - m.frame.SP
	if m.in.StackEnd == 0 || used > MaxStack {
		return 0, errFault
	}
	return used, nil
}

// callPlain calls the caller's function with whatever r1–r5 hold.
func (m *machine) callPlain(i Insn) (uint64, error) {
	if m.in.plain.helper == nil {
		return 0, errors.New("calls a helper")
	}
	number := i.Imm
	if i.Op == OpCALLX {
		r, err := m.read(i.Dst)
		if err != nil {
			return 0, err
		}
		number = int32(r.Bits)
	}
	var args [5]uint64
	for k := range args {
		args[k] = m.regs[R1+k].Bits
	}
	return m.in.plain.helper(number, args)
}

// length checks a helper's length: out of range is a fault, an address is a
// violation.
func length(n Value) (uint64, error) {
	if n.Kind != KindScalar {
		return 0, fmt.Errorf("passes %v as a length", n.Kind)
	}
	if n.Bits > MaxLength {
		return 0, errFault
	}
	return n.Bits, nil
}

// readByte reads one byte for a helper from wherever a points.
func (m *machine) readByte(a Value, k uint64) (byte, error) {
	v, err := m.loadFrom(a.plus(k), 0, 1)
	return byte(v.Bits), err
}

// scanByte is Count, Index and StrLen: one unit of fuel before each FuelBytes.
func (m *machine) scanByte(h Helper, a, n, want Value) (uint64, error) {
	limit, err := length(n)
	if err != nil {
		return 0, err
	}
	if want.Kind != KindScalar {
		return 0, fmt.Errorf("passes %v as a byte", want.Kind)
	}
	var count uint64
	for k := range limit {
		if k%FuelBytes == 0 {
			if err := m.charge(1); err != nil {
				return 0, err
			}
		}
		b, err := m.readByte(a, k)
		switch {
		case err != nil:
			return 0, err
		case b != byte(want.Bits):
		case h == HelperCount:
			count++
		default:
			return k, nil
		}
	}
	switch h {
	case HelperCount:
		return count, nil
	case HelperStrLen:
		return limit, nil
	}
	return ^uint64(0), nil
}

// find charges for the haystack as scanByte does and, at each place where the
// needle's first byte matches, for the rest of the needle as equal does.
func (m *machine) find(a, n, needle, size Value) (uint64, error) {
	limit, err := length(n)
	if err != nil {
		return 0, err
	}
	want, err := length(size)
	if err != nil {
		return 0, err
	}
	if want == 0 {
		return 0, errFault
	}
	for k := uint64(0); want <= limit && k <= limit-want; k++ {
		if k%FuelBytes == 0 {
			if err := m.charge(1); err != nil {
				return 0, err
			}
		}
		same, err := m.matchAt(a.plus(k), needle, want)
		if err != nil {
			return 0, err
		}
		if same {
			return k, nil
		}
	}
	return ^uint64(0), nil
}

// matchAt reports whether the needle stands at a.
func (m *machine) matchAt(a, needle Value, n uint64) (bool, error) {
	x, err := m.readByte(a, 0)
	if err != nil {
		return false, err
	}
	y, err := m.readByte(needle, 0)
	if err != nil || x != y {
		return false, err
	}
	return m.same(a.plus(1), needle.plus(1), n-1)
}

func (m *machine) equal(a, n, b, size Value) (uint64, error) {
	limit, err := length(n)
	if err != nil {
		return 0, err
	}
	other, err := length(size)
	if err != nil || limit != other {
		return 0, err
	}
	same, err := m.same(a, b, limit)
	if same {
		return 1, err
	}
	return 0, err
}

// same compares n bytes, first to last until they differ, at a unit of fuel
// before each FuelBytes.
func (m *machine) same(a, b Value, n uint64) (bool, error) {
	for k := range n {
		if k%FuelBytes == 0 {
			if err := m.charge(1); err != nil {
				return false, err
			}
		}
		x, err := m.readByte(a, k)
		if err != nil {
			return false, err
		}
		y, err := m.readByte(b, k)
		if err != nil {
			return false, err
		}
		if x != y {
			return false, nil
		}
	}
	return true, nil
}
