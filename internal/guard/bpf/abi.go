package bpf

// The contract between a guard's bytecode and whatever runs it: compile emits
// it, verify proves it kept, jit and the interpreter implement it.
//
// On entry r1 points to the frame, r10 to the end of a 512-byte stack; nothing
// else is initialised. The frame is not memory in general: jit maps its words
// to machine registers. Every access to it is an aligned 8-byte LDX or STX at a
// constant offset; anything else is refused by verify.
const (
	// FrameArg is the offset of argument word 0; word i is at FrameArg+8*i.
	// A word is the whole register: what the ABI leaves undefined in its upper
	// half is garbage, and the compiler extends according to the declared type.
	// SysV (psABI 3.2.3): words 0–5 are rdi rsi rdx rcx r8 r9.
	// Go ABIInternal: words 0–8 are rax rbx rcx rdi rsi r8 r9 r10 r11.
	FrameArg = 0
	// FrameArgs is how many argument words the frame has; under SysV words 6–8
	// do not exist and loading one is refused when the code is placed.
	FrameArgs = 9
	// FrameSP holds the address of the return address as at the function's
	// entry: stack argument word i of a SysV callee is at *(FrameSP)+8+8*i.
	FrameSP = 72
	// FrameReturn holds the return address.
	FrameReturn = 80

	// FrameResult is the offset of result word 0 (write only); word i at
	// FrameResult+8*i. SysV: rax, rdx. Go: as the argument registers. A Rewrite
	// puts the new argument word i here instead; under SysV words 6 to 8 are the first
	// three on the stack.
	FrameResult = 128
	// FrameResults is how many result words there are.
	FrameResults = 9
	// FrameXMM0 takes the bits of a floating-point result (write only).
	FrameXMM0 = 200
	// FrameErrno takes the errno a rejected call sets (write only, low 32 bits).
	FrameErrno = 208
	// FrameCode takes the code that the event of a Log or Reject carries
	// (write only, low 32 bits). A Log must store it; a Reject that did not
	// carries 0.
	FrameCode = 216

	// FrameSize bounds all offsets above.
	FrameSize = 256
	// StackSize is the bytes of bytecode stack below r10.
	StackSize = 512
)

// Verdict is r0 at exit. verify proves that it is one of a known, finite set
// of constants, and that every result word it announces was stored.
//
//	bits 0–7   kind
//	bits 8–15  number of result words (VerdictReject)
//	bit 16     XMM0 was stored
//	bit 17     errno was stored
//	bits 18–26 argument words that change (VerdictRewrite), word 0 at bit 18
type Verdict uint32

// Kinds of verdict.
const (
	VerdictPass   Verdict = 0 // the call goes on
	VerdictReject Verdict = 1 // the call returns at once, with the stored results
	VerdictLog    Verdict = 2 // the call goes on; an event is written
	// VerdictRewrite: the call goes on with other arguments; an event is written.
	// Only a Unit with CapRewrite may end so.
	VerdictRewrite Verdict = 3
	// VerdictExit: the process ends, by exit_group(2) with the low byte of result
	// word 0; an event is written. Only a Unit with CapExit may end so.
	VerdictExit Verdict = 4

	VerdictXMM0  Verdict = 1 << 16
	VerdictErrno Verdict = 1 << 17

	rewriteShift = 18
	rewriteMask  = (1<<FrameArgs - 1) << rewriteShift
)

// Caps are what a guard may do beyond looking, rejecting and noting. Its author
// asks for each by a directive, and the operator is shown them.
type Caps uint8

// Capabilities.
const (
	// CapRewrite lets a guard change argument words of the call.
	CapRewrite Caps = 1 << iota
	// CapShared makes its state one with that of the processes that fork from one
	// another.
	CapShared
	// CapWrite lets a guard write the target's memory: ST and STX to a scalar, and
	// HelperZero. Outside of enforce mode, and when its trial is over, nothing is
	// written: what would be is read instead, so that what cannot be is a fault in
	// every mode.
	CapWrite
	// CapCall lets a guard call functions of the target: HelperInvoke. What one
	// takes is not bounded. Outside of enforce mode, and when its trial is over, the
	// guard ends there with a pass. A guard whose thread is in such a call of its
	// prepatch passes without having looked.
	CapCall
	// CapExit lets a guard end the process.
	CapExit
)

// CapNamed returns the capability that //pie:cap asks for by name; 0 for another
// name.
func CapNamed(name string) Caps {
	switch name {
	case "rewrite":
		return CapRewrite
	case "write":
		return CapWrite
	case "call":
		return CapCall
	case "exit":
		return CapExit
	}
	return 0
}

// Rewrite returns the verdict of a call that goes on with the argument words
// whose bits are set in args changed.
func Rewrite(args uint16) Verdict { return VerdictRewrite | Verdict(args)<<rewriteShift&rewriteMask }

// Rewrites returns which argument words change, word i at bit i; 0 for verdicts
// of another kind.
func (v Verdict) Rewrites() uint16 {
	if v.Kind() != VerdictRewrite {
		return 0
	}
	return uint16(v & rewriteMask >> rewriteShift)
}

// Stored returns which words of the frame from FrameResult on the verdict takes
// with it, word i at bit i.
func (v Verdict) Stored() uint16 {
	switch v.Kind() {
	case VerdictReject:
		return 1<<v.Words() - 1
	case VerdictExit:
		return 1
	}
	return v.Rewrites()
}

// Wants returns the capability that a unit must have to end with v; 0 for none.
func (v Verdict) Wants() Caps {
	switch v.Kind() {
	case VerdictRewrite:
		return CapRewrite
	case VerdictExit:
		return CapExit
	}
	return 0
}

// Kind returns bits 0–7.
func (v Verdict) Kind() Verdict { return v & 0xff }

// Words returns how many result words a reject returns.
func (v Verdict) Words() int { return int(v>>8) & 0xff }

// Reject returns the verdict of a rejected call with the given result words.
func Reject(words int, flags Verdict) Verdict { return VerdictReject | Verdict(words)<<8 | flags }

// Legal reports whether v has a known kind and announces only what a verdict of
// that kind may.
func (v Verdict) Legal() bool {
	switch v.Kind() {
	case VerdictPass, VerdictLog, VerdictExit:
		return v == v.Kind()
	case VerdictReject:
		return v&^(0xffff|VerdictXMM0|VerdictErrno) == 0 && v.Words() <= FrameResults
	case VerdictRewrite:
		return v&^(VerdictRewrite|rewriteMask) == 0 && v.Rewrites() != 0
	}
	return false
}

// Pseudo source registers of LDDW (RFC 9669, 5.4); PIE's own, above the
// kernel's.
const (
	// PseudoSymbol loads the address of Unit.Symbols[imm] in the target.
	PseudoSymbol = 9
	// PseudoRodata loads the address of Unit.Rodata[imm:] (constant memory,
	// readable without a fault).
	PseudoRodata = 10
	// PseudoState loads the address of byte imm of the prepatch's state: Unit.State
	// bytes that calls, threads and, with CapShared, processes change at once.
	// Each access to it is of an aligned word of 8 bytes: LDX, ST, STX, or the
	// atomics ADD (with or without FETCH), XCHG and CMPXCHG. What it holds can be
	// anything.
	PseudoState = 11
)

// The prepatch's state begins with words that the inserter writes: a random seed
// for hashing keys, and a tag of the program. Guards only read the first.
const (
	StateSeed = 0
	StateTag  = 8
	// StateFirst is where the guards' own state begins.
	StateFirst = 64
	// MaxState is the most bytes of state a unit may have.
	MaxState = 256 << 10
)

// Helper is the number of a helper call (CALL, src 0). Helpers take r1–r5,
// return r0 and leave r1–r5 undefined. Addresses may be any scalar: reads are
// fault-guarded and a fault ends the guard with its onfault.
type Helper int32

const (
	// HelperCount (addr, n, byte) counts byte in n bytes.
	HelperCount Helper = 1
	// HelperIndex (addr, n, byte) is the first index of byte, or −1.
	HelperIndex Helper = 2
	// HelperStrLen (addr, max) is the length of the C string, at most max;
	// equal to max when no NUL was found before.
	HelperStrLen Helper = 3
	// HelperFind (addr, n, needle, m) is the first index of the m-byte needle,
	// or −1; needle is rodata or target memory; m = 0 is a fault.
	HelperFind Helper = 4
	// HelperEqual (addr, n, other, m) is 1 when n == m and the bytes are equal;
	// when n ≠ m it is 0 and nothing is read.
	HelperEqual Helper = 5
	// HelperTid () is the thread's id as gettid(2) says, 0 where the target's
	// seccomp filter does not let PIE ask.
	HelperTid Helper = 6
	// HelperNow () is nanoseconds of CLOCK_MONOTONIC, derived from the TSC.
	HelperNow Helper = 7
	// HelperStackUsed () is how many bytes of its stack the thread uses, from
	// the stack's end to FrameSP; a fault where the stack is not one that PIE
	// knows the end of.
	HelperStackUsed Helper = 8
	// HelperThread () is a number that no other live thread has, and is not 0:
	// SysV: the thread pointer. Go: the address of the goroutine's g.
	HelperThread Helper = 9
	// HelperZero (addr, n) sets n bytes of the target to 0, first to last: a fault
	// leaves those before it 0. It wants CapWrite and returns 0.
	HelperZero Helper = 10
	// HelperInvoke (function, block) calls a function of the target as C does. The
	// function is a SymbolFunc loaded by LDDW; block is InvokeSize bytes of the
	// guard's stack, aligned: the six argument words, all of them written, and where
	// the results go. It wants CapCall and returns rax. It is a fault when the
	// thread's stack has no room for it.
	HelperInvoke Helper = 11
)

// The block of HelperInvoke: after the call the words from InvokeWord on hold rax,
// the low half of xmm0, and what the function has set errno to, 0 if it has not.
const (
	InvokeArgs  = 6
	InvokeWord  = 0
	InvokeXMM0  = 48
	InvokeErrno = 56
	InvokeSize  = 64
)

// InsideSize is how many bytes of the state of a prepatch with CapCall are not the
// guards', but the machine code's: which threads are in a call.
const InsideSize = 64 + 32<<InsideBits

// InsideBits is the logarithm of how many threads can be in a call at once.
const InsideBits = 7

// Bounds of the addresses that a guard reads or writes in the target: what is below
// the default of vm.mmap_min_addr, and what is not in the user half of the
// address space with four-level paging, is a fault without being tried.
const (
	MinAddress = 1 << 16
	EndAddress = 1 << 47
)

// InTarget reports whether n bytes at addr lie within those bounds.
func InTarget(addr, n uint64) bool {
	return addr >= MinAddress && addr < EndAddress && n <= EndAddress-addr
}

// MaxLength is the longest memory a helper reads, in bytes. A length above it,
// or a negative one, is a fault.
const MaxLength = 1 << 24

// MaxStack is the largest stack that HelperStackUsed measures, in bytes: what is
// further from the end of a stack is not on it.
const MaxStack = 1 << 30

// FuelDefault is how much fuel a call has: a unit is about 2 ns. A back-edge (a jump to
// its own index or below) costs, when it is taken, as many units as verify finds a
// round of the loop to be long, at least one, and nothing where the loop is proven
// short. A helper pays one unit before it reads the first of each FuelBytes
// bytes, counted from the start of its memory: a byte search that succeeds at
// once has paid one. HelperFind pays so for the haystack, and at each place
// where the needle's first byte matches also for the rest of the needle. A
// unit that cannot be paid ends the guard with its onfuel. The default ends a
// guard within about 100 µs.
const (
	FuelDefault = 50_000
	FuelBytes   = 64
)

// Pos is where in a prepatch an instruction comes from.
type Pos struct {
	File      string
	Line, Col int
}

// SymbolKind says what a Symbol names in the target.
type SymbolKind uint8

// Kinds of symbol.
const (
	SymbolData    SymbolKind = iota // a global variable
	SymbolFunc                      // a function
	SymbolGoError                   // a Go variable of type error: two words, itab and data
	SymbolFuncEnd                   // the address behind the last byte of a function
)

// Symbol is a name in the target that the bytecode refers to.
type Symbol struct {
	Name string
	Kind SymbolKind
}

// Unit is one guard in bytecode, with everything needed to verify and place it.
type Unit struct {
	Name    string // the guard function's Go name, e.g. Match
	Insns   []Insn
	Pos     []Pos // parallel to Insns; empty or zero where there is no source
	Symbols []Symbol
	Rodata  []byte
	// OnFault and OnFuel are instruction indices of ordinary bytecode that runs,
	// with only r1 and r10 initialised, when a read faults or fuel ends.
	OnFault, OnFuel int
	// Fuel is the fuel of one call. 0 means FuelDefault, or less where verify
	// finds the rounds of a loop dear: Program.Unit has the number.
	Fuel uint32
	// State is how many bytes of state the prepatch has, a multiple of 8; all of
	// its guards have the same.
	State uint32
	// Caps is what the guard's author asked for.
	Caps Caps
}

// GuardState is how many bytes of the state are the guards': from 0 on.
func (u *Unit) GuardState() uint32 {
	if u.Caps&CapCall == 0 {
		return u.State
	}
	return u.State - min(u.State, InsideSize)
}
