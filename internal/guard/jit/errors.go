package jit

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Reasons why a verified guard cannot be placed at a site. They are wrapped in
// a *PlaceError; compare with errors.Is.
var (
	// ErrArgument: the guard reads an argument word that the calling convention
	// does not pass in a register.
	ErrArgument = errors.New("argument word is not in a register under this calling convention")
	// ErrResult: the guard returns a result word that the calling convention
	// does not return in a register.
	ErrResult = errors.New("result word is not in a register under this calling convention")
	// ErrErrno: the guard sets errno and the target has none that was found.
	ErrErrno = errors.New("where the target keeps errno is not known")
	// ErrThread: the guard asks about the thread, and the target has no C library
	// that gives its threads a thread pointer.
	ErrThread = errors.New("the target's threads have no thread pointer")
	// ErrXState: the guard calls functions, and how large the processor's extended
	// state is is not known.
	ErrXState = errors.New("the processor does not say how large its extended state is")
	// ErrSymbol: the layout gives no address for a symbol.
	ErrSymbol = errors.New("symbol has no address in the target")
	// ErrSyscall: the fault mode needs a system call that the target's seccomp
	// filter does not allow.
	ErrSyscall = errors.New("fault mode needs a system call that the target's seccomp filter forbids")
	// ErrQuiet: the guard does what a quiet one must not: it makes system calls, or
	// reads the time stamp counter.
	ErrQuiet = errors.New("not possible without system calls and the time stamp counter")
	// ErrStack: the guard needs more stack than a goroutine is sure to have.
	ErrStack = errors.New("the guard needs too much stack for a goroutine")
	// ErrLayout: addresses are misaligned or out of reach of one another.
	ErrLayout = errors.New("memory layout is unusable")
	// ErrUnsupported: the bytecode uses what the compiler does not place.
	ErrUnsupported = errors.New("bytecode cannot be placed")
)

// PlaceError says which guard, and which instruction of it, cannot be placed.
type PlaceError struct {
	Unit   string
	Insn   int // instruction index, −1 when no single one is at fault
	Pos    bpf.Pos
	Detail string
	Err    error // one of the sentinels
}

func (e *PlaceError) Error() string {
	where := e.Unit
	switch {
	case e.Pos.File != "":
		where = fmt.Sprintf("%s:%d:%d: %s", e.Pos.File, e.Pos.Line, e.Pos.Col, e.Unit)
	case e.Insn >= 0:
		where = fmt.Sprintf("%s: instruction %d", e.Unit, e.Insn)
	}
	if e.Detail == "" {
		return fmt.Sprintf("%s: %v", where, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", where, e.Detail, e.Err)
}

func (e *PlaceError) Unwrap() error { return e.Err }
