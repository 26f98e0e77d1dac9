package bpf

import "fmt"

// Memory is the target's memory as the interpreter reads it.
type Memory interface {
	// Read fills p from addr and reports whether every byte was readable.
	Read(addr uint64, p []byte) bool
}

// WritableMemory is memory that may also be written: in plain mode, and by a guard
// that has CapWrite.
type WritableMemory interface {
	Memory
	// Write writes p at addr and reports whether every byte was writable.
	Write(addr uint64, p []byte) bool
}

// Frame is what a guard can read of the call it looks at.
type Frame struct {
	Args       [FrameArgs]uint64
	SP, Return uint64
}

// Result is how a guard ended.
type Result struct {
	Verdict   Verdict
	Words     [FrameResults]uint64 // result words, or new argument words; those the verdict announces count
	XMM0      uint64
	Errno     uint32
	Code      uint32
	Faulted   bool   // a read faulted and OnFault gave the verdict
	OutOfFuel bool   // fuel ended and OnFuel gave the verdict
	Withheld  bool   // it would have called a function, and only counts
	Fuel      uint32 // units used
	Steps     int    // instructions executed
}

// Returned is how a function of the target came back.
type Returned struct {
	Word, XMM0 uint64
	Errno      uint32
}

// Violation is a step that no verified guard takes: an access out of bounds, a
// value never written, an address where a number belongs, a verdict that
// announces what was not stored.
type Violation struct {
	Insn int
	Msg  string
}

func (v *Violation) Error() string { return fmt.Sprintf("instruction %d: %s", v.Insn, v.Msg) }

// Interp is the checked interpreter: it runs a guard that verify need not have
// seen, and reports any step that a verified guard must never take. It is the
// oracle for verify, compile and jit, and so does everything the plain way.
type Interp struct {
	Unit    *Unit
	Memory  Memory   // nil: every read of the target faults
	Symbols []uint64 // addresses of Unit.Symbols in the target
	Tid     uint32   // what HelperTid answers
	Now     uint64   // what HelperNow answers
	Thread  uint64   // what HelperThread answers
	// State is the prepatch's state, Unit.State bytes; it stays from run to run.
	State []byte
	// StackEnd is where the thread's stack ends, for HelperStackUsed; 0: not known.
	StackEnd uint64
	// Charge says how many units of fuel a back-edge costs; nil: one each. With
	// verify's Program.Fuel the interpreter counts as the machine code does.
	Charge func(pc int) uint32
	// Audit says that the guard only counts: what it would write is read, and it
	// passes where it would call.
	Audit bool
	// Call answers HelperInvoke; it is a fault when ok is false, and without Call.
	Call func(s Symbol, args [InvokeArgs]uint64) (r Returned, ok bool)
	// MaxSteps bounds a run; 0 means 16 million instructions.
	MaxSteps int
	// Trace, when set, sees every instruction before it runs: the registers of
	// the running function and how many local calls deep it is.
	Trace func(pc int, regs *[NumRegs]Value, depth int)

	// plain is the mode of the public conformance suite.
	plain *plain
}

// plain is a program outside a guard: target memory may be written, helpers
// are the caller's, r0 at exit is any number.
type plain struct {
	helper func(number int32, args [5]uint64) (uint64, error)
	regs   [2]uint64 // r1 and r2
}

const defaultMaxSteps = 16 << 20

// Run runs the guard on one call. An error is a *Violation, or says that the
// unit itself is out of shape.
func (in *Interp) Run(f Frame) (Result, error) {
	if len(in.Symbols) < len(in.Unit.Symbols) {
		return Result{}, fmt.Errorf("bytecode: %d addresses for %d symbols", len(in.Symbols), len(in.Unit.Symbols))
	}
	if uint64(len(in.State)) < uint64(in.Unit.State) {
		return Result{}, fmt.Errorf("bytecode: %d bytes of state, the unit has %d", len(in.State), in.Unit.State)
	}
	m := newMachine(in, f)
	if err := m.run(); err != nil {
		return m.res, err
	}
	return m.res, nil
}

// RunPlain runs instructions as the public conformance suite does: r1 and r2
// are the address and length of memory, helper answers calls, and r0 at exit
// is the result.
func RunPlain(insns []Insn, mem WritableMemory, addr, n uint64, helper func(number int32, args [5]uint64) (uint64, error)) (uint64, error) {
	in := &Interp{
		Unit:   &Unit{Insns: insns, OnFault: -1, OnFuel: -1, Fuel: 1 << 31},
		Memory: mem,
		plain:  &plain{helper: helper, regs: [2]uint64{addr, n}},
	}
	m := newMachine(in, Frame{})
	if err := m.run(); err != nil {
		return 0, err
	}
	return m.regs[R0].Bits, nil
}
