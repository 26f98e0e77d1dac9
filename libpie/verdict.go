package libpie

import (
	"math"
	"reflect"

	"github.com/patch-integration-engine/pie/libpie/internal/native"
)

// Verdict is what a guard says about a call. Return it where you make it.
type Verdict struct {
	o Outcome
}

// Outcome is a verdict, spelled out for tests.
type Outcome struct {
	Kind     Kind
	Words    []Result // the result words of a rejected call
	Float    uint64   // the bits of a floating-point result
	HasFloat bool
	Errno    Errno // what errno is set to
	HasErrno bool
	Code     uint32 // what the event carries
}

// Kind is what becomes of the call.
type Kind uint8

// Kinds of verdict.
const (
	Passed    Kind = iota // the call goes on
	Rejected              // the call returns at once, with the given results
	Logged                // the call goes on; an event is written
	Rewritten             // the call goes on with other arguments; an event is written
	Exited                // the process ends; its code is the first of Words
)

// Result is one or two words that a rejected call returns.
type Result struct {
	Word uint64
	Var  string // if set, the two words of this Go variable instead
}

// Outcome returns the verdict, spelled out for tests. A guard has no use for it.
func (v Verdict) Outcome() Outcome { return v.o }

// Pass lets the call go on.
func Pass() Verdict { return Verdict{Outcome{Kind: Passed}} }

// Log lets the call go on and writes an event that carries code.
func Log(code uint32) Verdict { return Verdict{Outcome{Kind: Logged, Code: code}} }

// Rewrite lets the call go on with the arguments that Call.SetArg changed, and
// writes an event. It needs the capability: //pie:cap rewrite.
func Rewrite() Verdict { return Verdict{Outcome{Kind: Rewritten}} }

// Exit ends the process at once, all of its threads, by exit_group(2) with the low
// byte of code: no exit handler runs, nothing is flushed. It is for an attack that
// nothing else stops, in a process that is started anew. It needs the capability
// //pie:cap exit.
func Exit(code int32) Verdict {
	return Verdict{Outcome{Kind: Exited, Words: []Result{Word(code)}}}
}

// Reject makes the function return v at once. v has the type that the function
// returns: int32 for a C int.
func Reject[T Value](v T) Verdict { return rejected(Word(v)) }

// RejectVoid makes a function without result return at once.
func RejectVoid() Verdict { return rejected() }

// RejectPtr makes the function return the pointer a at once; 0 is NULL.
func RejectPtr(a Addr) Verdict { return rejected(Word(a)) }

// RejectFloat makes a function that returns a double return v at once. v is a
// constant.
func RejectFloat(v float64) Verdict {
	r := rejected()
	r.o.Float, r.o.HasFloat = math.Float64bits(v), true
	return r
}

// RejectFloat32 makes a function that returns a float return v at once. v is a
// constant.
func RejectFloat32(v float32) Verdict {
	r := rejected()
	r.o.Float, r.o.HasFloat = uint64(math.Float32bits(v)), true
	return r
}

// RejectErrno sets errno and makes the function return v at once.
func RejectErrno[T Value](errno Errno, v T) Verdict {
	r := rejected(Word(v))
	r.o.Errno, r.o.HasErrno = errno, true
	return r
}

// RejectGo makes a Go function return at once with the given results, in order,
// each result as its words: for (n int, err error)
//
//	libpie.RejectGo(libpie.Word(0), libpie.GoVar("io.EOF"))
func RejectGo(results ...Result) Verdict { return rejected(results...) }

// Word is one word, a result or an argument of Invoke: v, extended as its type says.
func Word[T Value](v T) Result { return Result{Word: native.Word(reflect.ValueOf(v))} }

// GoVar is the two words of the package-level variable of type error that has
// this full name in the target: "io.EOF",
// "github.com/nats-io/nats-server/v2/server.ErrMaxPayload". name is a constant.
func GoVar(name string) Result { return Result{Var: name} }

// WithCode is v whose event carries code: it tells the checks of one guard apart.
func (v Verdict) WithCode(code uint32) Verdict {
	v.o.Code = code
	return v
}

func rejected(words ...Result) Verdict { return Verdict{Outcome{Kind: Rejected, Words: words}} }
