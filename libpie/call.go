package libpie

import (
	"reflect"

	"github.com/patch-integration-engine/pie/libpie/internal/native"
	"github.com/patch-integration-engine/pie/libpie/internal/words"
)

// Call is one call of the guarded function. A guard gets it as its first
// parameter and must not keep it.
type Call struct {
	env Environment
}

// Environment is what a natively run guard sees of its process. Package
// libpietest implements it; a guard has no use for it.
type Environment interface {
	Word(i int) uint64      // argument word i
	SetArg(i int, v uint64) // what it becomes when the call is rewritten
	ReturnAddr() Addr       // where the call returns to
	StackUsed() int         // bytes of the thread's stack in use; may end the guard
	Global(name string) Addr
	Function(name string) (start, end Addr)
	// Invoke calls a function of the process; may end the guard.
	Invoke(fn string, args []uint64) Returned
	// State is the memory of a state variable, n words, and the seed of hashes.
	State(of any, n int) (w words.Words, seed uint64)
	Thread() uint64      // who Tid says, as PerThread knows it
	Tid() int32          // the calling thread
	Now() int64          // CLOCK_MONOTONIC, ns
	Spend(bytes int)     // a reader looked at so many bytes
	Fault(reason string) // ends the guard: does not return
}

// NewCall returns a call as e describes it, for running a guard natively.
func NewCall(e Environment) *Call { return &Call{env: e} }

// Value is a type that fits one word.
type Value interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uint | ~uintptr | ~bool
}

// Arg returns argument word i, counted from 0, as a T: the low bytes of the
// word, extended as T says. i is a constant. It is for what a parameter list
// cannot say: stack and variadic arguments. Words beyond the argument
// registers (SysV: from 6) are read from the stack. A bool is true when the low
// byte is not 0.
func Arg[T Value](c *Call, i int) T {
	var t T
	native.SetWord(reflect.ValueOf(&t).Elem(), c.env.Word(i))
	return t
}

// SetArg changes argument word i, counted from 0, to v: what the function sees
// when the guard returns Rewrite. With any other verdict it has no effect. i is a
// constant below 9. Words 6 to 8 of a C function are on its caller's stack: change them
// only where it has so many.
// What Arg and the guard's parameters say does not change.
func (c *Call) SetArg(i int, v int64) { c.env.SetArg(i, uint64(v)) }

// Bytes returns the n bytes at a. Nothing is read yet. A negative n, and one
// above MaxLength, is a fault.
func (c *Call) Bytes(a Addr, n int) Mem {
	if n < 0 || n > MaxLength {
		c.env.Fault("length out of range")
	}
	return Mem{a: a, n: n, env: c.env}
}

// CStr returns the C string at a, without its NUL, looking at no more than max
// bytes. terminated tells whether the NUL was found; if not, the memory
// returned is max bytes long. A negative max, and one above MaxLength, is a fault.
func (c *Call) CStr(a Addr, max int) (s Mem, terminated bool) {
	if max < 0 || max > MaxLength {
		c.env.Fault("length out of range")
	}
	n := 0
	for n < max && native.Byte(uint64(a)+uint64(n)) != 0 {
		n++
	}
	c.env.Spend(min(n+1, max))
	return Mem{a: a, n: n, env: c.env}, n < max
}

// ReturnAddr returns the address the call returns to.
func (c *Call) ReturnAddr() Addr { return c.env.ReturnAddr() }

// CalledFrom reports whether the call returns into function fn of the program or
// one of its libraries. fn is a constant, written as func= in a directive is. What
// the compiler has inlined elsewhere, or split off into a part of its own, is not
// in fn; a tail call returns into the function before.
func (c *Call) CalledFrom(fn string) bool {
	start, end := c.env.Function(fn)
	r := c.env.ReturnAddr()
	return r > start && r <= end // a call that never returns is the last of its function
}

// Global returns the address of the global variable with this name, a constant:
// of the image that the guarded function is in, else of the executable or a
// library. file.c:name means a static one. A name that the target does not have is
// an error at insertion.
func (c *Call) Global(name string) Addr { return c.env.Global(name) }

// GlobalOf returns Global as a pointer to a T, for reading fields.
func GlobalOf[T any](c *Call, name string) *T { return At[T](c.env.Global(name)) }

// StackUsed returns how many bytes of the thread's stack are in use at the
// call: what grows when a function recurses. It is a fault on a stack that pie does
// not know the end of: one of a signal handler, or of a coroutine that is no
// goroutine.
func (c *Call) StackUsed() int { return c.env.StackUsed() }

// Tid returns the id of the calling thread, as gettid(2) does; 0 where the
// target's seccomp filter does not let pie ask.
func (c *Call) Tid() int32 { return c.env.Tid() }

// Now returns the time in nanoseconds, as CLOCK_MONOTONIC counts it.
func (c *Call) Now() int64 { return c.env.Now() }
