// Package jit turns a verified guard into x86-64 code for one place in one
// process.
//
// The code is a block that is jumped to, not called: the patch site's jump leads
// to it, and it leads back, on the stack of the thread that made the call.
// Its promises:
//
//   - A call that passes goes on at the block's link (link.go): with the
//     instructions that the site's jump displaced, or with the next guard.
//   - On pass, every general and vector register, rsp and all memory at and
//     above rsp are as at the block's entry; only the flags change. A register
//     in Site.Free may change; every other one the block uses is pushed first.
//   - On reject, Site.Undo brings rsp and the callee-saved registers back to
//     the function's entry, results are set and the block returns to the caller.
//     Registers other than results and Site.Free are as at the block's entry.
//   - On rewrite, the argument registers that the verdict names change, and
//     otherwise what is said of pass holds.
//   - A guard with bpf.CapWrite writes to the target only in enforce mode and while
//     its trial lasts, as it found them when it began; never to its own frame, the
//     return address, or the arena.
//   - Nothing is kept outside registers and the thread's own stack, so that the
//     block may be re-entered by a signal handler or recursion at any instruction.
//     The thread's rseq_cs is set while a call is counted (count.go), which the
//     kernel itself takes back where a signal handler begins.
//   - rsp never changes between the prologue and the epilogue where a read can
//     fault, so that a fault lands with the block's frame intact.
//
// Bytecode becomes SSA form (lower.go), loses what is dead or constant
// (simplify.go), asked before (implied.go, meeting.go) or a branch where a number
// would do (ifconvert.go), is given machine registers (allocate.go) and is written
// out (emit*.go), in several rounds: with short branches, and loops where the
// processor fetches them best (draft.go). Argument words are read in place, from the
// registers the caller put them in. Blocks that cannot reach a pass come last, out of the way of the
// blocks that can; registers are saved only on the way into blocks that need it.
package jit

import (
	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// ABI is the calling convention at the function's entry.
type ABI uint8

// Calling conventions.
const (
	SysV       ABI = iota // System V psABI, AMD64
	GoInternal            // Go's ABIInternal for amd64
)

// FaultMode is how an access to the target's memory survives a bad address.
type FaultMode uint8

// Fault modes. Every mode first refuses addresses below 64 KiB and above the
// user half.
const (
	// Table: a plain load; Handler looks the faulting instruction up in a table.
	// Only where no thread blocks SIGSEGV or SIGBUS.
	Table FaultMode = iota
	// Probe: rt_sigprocmask(2) tells whether a page can be read. It keeps no
	// state, but a concurrent munmap between probe and load kills. What is written
	// is written as in Copy: nothing tells whether a page can be.
	Probe
	// Copy: process_vm_readv(2) and process_vm_writev(2) on the process itself. No
	// race: what cannot be read or written is a fault. A store across two pages is
	// written whole, or not at all unless the second is taken away at that moment.
	Copy
)

// Site is what the block must know about the place it is reached from.
type Site struct {
	ABI     ABI
	Free    amd64.RegSet // general registers that may be clobbered without saving
	SPDelta int32        // the entry's rsp is rsp + SPDelta: what kept instructions pushed
	// Undo is run before a reject's ret: machine code that brings rsp and the
	// callee-saved registers back to the entry. It must keep the registers that
	// hold results.
	Undo []byte
}

// ErrnoSlot says how the target finds a thread's errno: at fs:Offset, or at
// fs:*GOT where GOT is the address of a resolved TPOFF64 slot. The zero value
// says that the target has no errno that PIE could find.
type ErrnoSlot struct {
	Known  bool
	Offset int32        // valid when GOT is 0
	GOT    address.Addr // 0: Offset counts
}

// Displaced writes instructions that the site's jump displaced, as they must be
// at at.
type Displaced func(at address.Addr) ([]byte, error)

// Layout is where everything is. Code, Control, Counters and Events lie within
// 2 GiB of one another.
type Layout struct {
	Code     address.Addr   // where the block goes, 16-byte aligned
	Control  address.Addr   // the guard's control block, Control* offsets
	Counters address.Addr   // CountersSize bytes, Counter* offsets
	Events   address.Addr   // EventsSize bytes, Event* offsets
	Guard    uint32         // index written into events
	Symbols  []address.Addr // by Unit.Symbols
	State    address.Addr   // the prepatch's state, of Unit.State bytes; 64-byte aligned
	Errno    ErrnoSlot
	Rseq     RseqArea     // of every thread that may call the function; unknown for Quiet
	StackEnd address.Addr // where the main thread's stack ends; 0: not known
	Pointer  bool         // fs:0 holds the thread pointer in every thread (psABI, TLS)
	Gettid   bool         // the target's seccomp allows gettid(2) and rt_sigprocmask(2)
	Faults   FaultMode
	// Quiet guards write no events and never read the time stamp counter, so that they
	// have no trial; they count in QuietCountersSize bytes. For threads that the kernel
	// ends for rdtsc (seccomp(2), SECCOMP_SET_MODE_STRICT), and where memory is scarce.
	Quiet bool
	XSave int32 // bytes of an XSAVE area for all state that the kernel has enabled; 0: not known
	// OwnStart to OwnEnd is the arena, less than 2 GiB: what a guard with
	// bpf.CapWrite does not write to.
	OwnStart, OwnEnd address.Addr

	// Before runs ahead of the guard where the site's jump leads to it: nil for
	// nothing. After runs when the call has passed, and goes back to the function.
	Before, After Displaced
}

// FaultRange is a range of instructions that may fault, and where a fault in it
// continues, with every register but rip kept.
type FaultRange struct {
	Start, End address.Addr // [Start, End)
	Landing    address.Addr
}

// Code is a guard placed at Layout.Code.
type Code struct {
	Bytes  []byte
	Body   int          // offset of the guard itself, where another guard of the site goes on; Before is ahead of it
	Link   int          // offset of the link, which LinkFits; After is behind it
	End    int          // offset of the end of After
	Faults []FaultRange // ascending, disjoint; empty unless Layout.Faults is Table
	Stack  int          // the most bytes of stack used below the entry's rsp
	Saved  amd64.RegSet // registers saved and restored
	Rseq   RseqArea     // what it counts with: Layout's, unless the guard is quiet
}
