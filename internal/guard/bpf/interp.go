package bpf

import "errors"

// Memory is the target's memory as the interpreter reads it.
type Memory interface {
	// Read fills p from addr and reports whether every byte was readable.
	Read(addr uint64, p []byte) bool
}

// Frame is what a guard can read of the call it looks at.
type Frame struct {
	Args       [FrameArgs]uint64
	SP, Return uint64
}

// Result is how a guard ended.
type Result struct {
	Verdict   Verdict
	Words     [FrameResults]uint64 // result words; those the verdict announces count
	XMM0      uint64
	Errno     uint32
	Code      uint32
	Faulted   bool   // a read faulted and OnFault gave the verdict
	OutOfFuel bool   // fuel ended and OnFuel gave the verdict
	Fuel      uint32 // units used
	Steps     int    // instructions executed
}

// Interp is the checked interpreter: it runs a guard that verify need not have
// seen, and reports any step that a verified guard must never take.
type Interp struct {
	Unit    *Unit
	Memory  Memory   // nil: every read of the target faults
	Symbols []uint64 // addresses of Unit.Symbols in the target
	Tid     uint32   // what HelperTid answers
	Now     uint64   // what HelperNow answers
	// Charged says which back-edges cost a unit of fuel; nil charges each. With
	// verify's NeedsFuel the interpreter counts as the machine code does.
	Charged func(pc int) bool
	// MaxSteps bounds a run; 0 means 16 million instructions.
	MaxSteps int
}

// Run runs the guard on one call.
func (in *Interp) Run(f Frame) (Result, error) {
	return Result{}, errors.New("bytecode: interpreter not built yet")
}
