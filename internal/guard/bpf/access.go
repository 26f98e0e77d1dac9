package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// load runs LDX.
func (m *machine) load(i Insn) error {
	signed := i.Mode() == ModeMEMSX
	if i.Mode() != ModeMEM && (!signed || i.Width() == 8) {
		return fmt.Errorf("opcode %#02x does not exist", i.Op)
	}
	base, err := m.read(i.Src)
	if err != nil {
		return err
	}
	v, err := m.loadFrom(base, int64(i.Off), i.Width())
	if err != nil {
		return err
	}
	if signed && v.Kind == KindScalar {
		shift := 64 - 8*i.Width()
		v.Bits = uint64(int64(v.Bits<<shift) >> shift)
	}
	return m.write(i.Dst, v)
}

func (m *machine) loadFrom(base Value, off int64, n int) (Value, error) {
	at := base.Bits + uint64(off)
	switch base.Kind {
	case KindFrame:
		return m.loadFrame(at, n)
	case KindStack:
		s, k, err := m.stackAt(base.Depth, at, n)
		if err != nil {
			return Value{}, err
		}
		return s.load(k, n)
	case KindState:
		w, err := m.stateAt(at, n)
		if err != nil {
			return Value{}, err
		}
		return scalar(binary.LittleEndian.Uint64(w)), nil
	}
	var buf [8]byte
	if err := m.readBytes(Value{Kind: base.Kind, Bits: at}, buf[:n]); err != nil {
		return Value{}, err
	}
	return scalar(binary.LittleEndian.Uint64(buf[:])), nil
}

// readBytes reads rodata or the target at a.
func (m *machine) readBytes(a Value, p []byte) error {
	n := uint64(len(p))
	if a.Kind == KindRodata {
		size := uint64(len(m.in.Unit.Rodata))
		if a.Bits > size || n > size-a.Bits {
			return fmt.Errorf("reads %d bytes at offset %d of %d bytes of rodata", n, int64(a.Bits), size)
		}
		copy(p, m.in.Unit.Rodata[a.Bits:])
		return nil
	}
	if m.in.Memory == nil || m.in.plain == nil && !InTarget(a.Bits, n) || !m.in.Memory.Read(a.Bits, p) {
		return errFault
	}
	return nil
}

// stackAt returns the stack of a depth and the index in it of offset at from
// its r10.
func (m *machine) stackAt(depth int8, at uint64, n int) (*stack, int, error) {
	k := int64(at) + StackSize
	if int(depth) >= len(m.stacks) {
		return nil, 0, errors.New("uses the stack of a function that has ended")
	}
	if int64(at) >= 0 || k < 0 || k+int64(n) > StackSize {
		return nil, 0, fmt.Errorf("accesses %d bytes at r10%+d, outside the stack", n, int64(at))
	}
	return m.stacks[depth], int(k), nil
}

func (m *machine) loadFrame(at uint64, n int) (Value, error) {
	if n != 8 || at%8 != 0 {
		return Value{}, fmt.Errorf("reads %d bytes at offset %d of the frame", n, int64(at))
	}
	switch {
	case at < FrameArg+8*FrameArgs:
		return scalar(m.frame.Args[(at-FrameArg)/8]), nil
	case at == FrameSP:
		return scalar(m.frame.SP), nil
	case at == FrameReturn:
		return scalar(m.frame.Return), nil
	}
	return Value{}, fmt.Errorf("reads offset %d of the frame", int64(at))
}

// store runs ST, STX and atomics.
func (m *machine) store(i Insn) error {
	base, err := m.read(i.Dst)
	if err != nil {
		return err
	}
	v := scalar(uint64(int64(i.Imm)))
	if i.Class() == ClassSTX {
		if v, err = m.read(i.Src); err != nil {
			return err
		}
	}
	switch {
	case i.IsAtomic():
		return m.atomic(i, base, v)
	case i.Mode() != ModeMEM:
		return fmt.Errorf("opcode %#02x does not exist", i.Op)
	}
	if err := m.storeTo(base, int64(i.Off), i.Width(), v); err != nil {
		return err
	}
	m.pc++
	return nil
}

func (m *machine) storeTo(base Value, off int64, n int, v Value) error {
	at := base.Bits + uint64(off)
	switch base.Kind {
	case KindFrame:
		return m.storeFrame(at, n, v)
	case KindStack:
		s, k, err := m.stackAt(base.Depth, at, n)
		if err != nil {
			return err
		}
		return s.store(k, n, v)
	case KindState:
		w, err := m.stateAt(at, n)
		if err != nil {
			return err
		}
		if v.pointer() {
			return fmt.Errorf("writes %v to the state", v.Kind)
		}
		binary.LittleEndian.PutUint64(w, v.Bits)
		return nil
	case KindScalar:
		return m.storeTarget(at, n, v)
	}
	return fmt.Errorf("writes to %v", base.Kind)
}

func (m *machine) storeFrame(at uint64, n int, v Value) error {
	if n != 8 || at%8 != 0 || v.pointer() {
		return fmt.Errorf("writes %d bytes of %v at offset %d of the frame", n, v.Kind, int64(at))
	}
	switch {
	case at >= FrameResult && at < FrameResult+8*FrameResults:
		m.res.Words[(at-FrameResult)/8] = v.Bits
	case at == FrameXMM0:
		m.res.XMM0 = v.Bits
	case at == FrameErrno:
		m.res.Errno = uint32(v.Bits)
	case at == FrameCode:
		m.res.Code = uint32(v.Bits)
	default:
		return fmt.Errorf("writes offset %d of the frame", int64(at))
	}
	m.stored[at/8] = true
	return nil
}

// atomic runs a read-modify-write on the stack (in plain mode, on memory too).
func (m *machine) atomic(i Insn, base, src Value) error {
	n := i.Width()
	at := base.Bits + uint64(i.Off)
	if n < 4 || base.Kind == KindFrame || src.pointer() || base.Kind == KindStack && at%uint64(n) != 0 {
		return fmt.Errorf("atomic operation of %d bytes on %v", n, base.Kind)
	}
	if base.Kind == KindState && !AtomicOnState(i.Imm) {
		return fmt.Errorf("atomic operation %#x on the state", i.Imm)
	}
	old, err := m.loadFrom(base, int64(i.Off), n)
	if err != nil {
		return err
	}
	if old.pointer() {
		return fmt.Errorf("atomic operation on %v", old.Kind)
	}
	if i.Imm == AtomicCMPXCHG {
		return m.compareExchange(i, base, old, src)
	}
	v, ok := Atomic(i.Imm, old.Bits, src.Bits)
	if !ok {
		return fmt.Errorf("atomic operation %#x does not exist", i.Imm)
	}
	if err := m.storeTo(base, int64(i.Off), n, scalar(v)); err != nil {
		return err
	}
	if i.Imm&AtomicFetch != 0 {
		return m.write(i.Src, old)
	}
	m.pc++
	return nil
}

func (m *machine) compareExchange(i Insn, base, old, src Value) error {
	r0, err := m.read(R0)
	if err != nil {
		return err
	}
	want := r0.Bits
	if i.Width() == 4 {
		want = uint64(uint32(want))
	}
	if r0.pointer() {
		return fmt.Errorf("atomic operation with %v in r0", r0.Kind)
	}
	if old.Bits == want {
		if err := m.storeTo(base, int64(i.Off), i.Width(), src); err != nil {
			return err
		}
	}
	return m.write(R0, old)
}

// Atomic returns what the atomic operation op (Imm, not CMPXCHG) leaves in
// memory that held old; ok is false when there is no such operation.
func Atomic(op int32, old, src uint64) (v uint64, ok bool) {
	switch op &^ AtomicFetch {
	case AtomicADD:
		return old + src, true
	case AtomicOR:
		return old | src, true
	case AtomicAND:
		return old & src, true
	case AtomicXOR:
		return old ^ src, true
	}
	return src, op == AtomicXCHG
}
