package libpietest

import (
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/patch-integration-engine/pie/libpie"
	"github.com/patch-integration-engine/pie/libpie/internal/native"
)

// Result is how a guard ended.
type Result struct {
	libpie.Outcome        // of a guard that came to a verdict
	Faulted        bool   // it did not: a read faulted, or Go panicked
	Reason         string // why it faulted
	OutOfFuel      bool   // it did not: its readers looked at too much memory
	Fuel           int    // what its readers cost, without loops
	// Args holds the argument words that a rewritten call goes on with, by index.
	Args map[int]uint64
}

// Passed reports whether the guard came to the verdict Pass.
func (r Result) Passed() bool { return r.decided() && r.Kind == libpie.Passed }

// Rejected reports whether the guard came to a Reject verdict.
func (r Result) Rejected() bool { return r.decided() && r.Kind == libpie.Rejected }

// Rewritten reports whether the guard came to the verdict Rewrite.
func (r Result) Rewritten() bool { return r.decided() && r.Kind == libpie.Rewritten }

// Exited reports whether the guard came to the verdict Exit; Value is its code.
func (r Result) Exited() bool { return r.decided() && r.Kind == libpie.Exited }

// Logged reports whether the guard came to the verdict Log.
func (r Result) Logged() bool { return r.decided() && r.Kind == libpie.Logged }

// Value returns the first result word of a rejected call, as a signed number, or
// the code of an Exit.
func (r Result) Value() int64 {
	if !r.Rejected() && !r.Exited() || len(r.Words) == 0 {
		return 0
	}
	return int64(r.Words[0].Word)
}

func (r Result) decided() bool { return !r.Faulted && !r.OutOfFuel }

// String tells the result for the messages of tests.
func (r Result) String() string {
	switch {
	case r.Faulted:
		return "fault: " + r.Reason
	case r.OutOfFuel:
		return "out of fuel"
	case r.Kind == libpie.Passed:
		return "pass"
	case r.Kind == libpie.Logged:
		return fmt.Sprintf("log %d", r.Code)
	case r.Kind == libpie.Exited:
		return fmt.Sprintf("exit %d", r.Value())
	case r.Kind == libpie.Rewritten:
		return fmt.Sprintf("rewrite %v", r.Args)
	}
	s := "reject"
	for _, w := range r.Words {
		if w.Var != "" {
			s += " " + w.Var
		} else {
			s += fmt.Sprintf(" %d", int64(w.Word))
		}
	}
	if r.HasErrno {
		s += fmt.Sprintf(" errno %d", r.Errno)
	}
	return s
}

// fuel is the fuel of one call, and what a unit of it reads, as in a process.
const (
	fuel      = 50_000
	fuelBytes = 64
)

// Run calls the guard with args, which have the types of its parameters after
// the *libpie.Call; a string will do for a libpie.GoString. Missing arguments
// are not allowed.
func (p *Process) Run(guard any, args ...any) Result {
	p.tb.Helper()
	g := p.guard(guard)
	if len(args) != g.Type().NumIn()-1 {
		p.tb.Fatalf("libpietest: the guard takes %d arguments, not %d", g.Type().NumIn()-1, len(args))
	}
	var words []uint64
	for i, a := range args {
		words = append(words, p.words(reflect.ValueOf(a), g.Type().In(i+1))...)
	}
	r := p.RunWords(guard, words...)
	runtime.KeepAlive(args) // words hold the addresses of Go values, too
	return r
}

// RunWords calls the guard with argument words as the registers and the stack
// have them. Words beyond those given are 0.
func (p *Process) RunWords(guard any, words ...uint64) Result {
	p.tb.Helper()
	g := p.guard(guard)
	e := &environment{p: p, words: words}
	args := []reflect.Value{reflect.ValueOf(libpie.NewCall(e))}
	next := 0
	for i := 1; i < g.Type().NumIn(); i++ {
		v := reflect.New(g.Type().In(i)).Elem()
		next = e.fill(v, next)
		args = append(args, v)
	}
	done := make(chan Result, 1)
	go e.run(g, args, done)
	const patience = 20 * time.Second
	select {
	case r := <-done:
		return r
	case <-time.After(patience):
		p.tb.Fatalf("libpietest: the guard did not return within %v; in a process its onfuel would end it", patience)
		return Result{}
	}
}

// guard checks that g is a guard.
func (p *Process) guard(g any) reflect.Value {
	p.tb.Helper()
	v := reflect.ValueOf(g)
	if v.Kind() != reflect.Func || v.Type().NumIn() == 0 || v.Type().In(0) != reflect.TypeFor[*libpie.Call]() ||
		v.Type().NumOut() != 1 || v.Type().Out(0) != reflect.TypeFor[libpie.Verdict]() || v.Type().IsVariadic() {
		p.tb.Fatalf("libpietest: %T is no guard, which is a func(*libpie.Call, …) libpie.Verdict", g)
	}
	return v
}

// environment is one run.
type environment struct {
	p     *Process
	words []uint64
	spent int
	args  map[int]uint64 // what SetArg changed
}

// What ends a guard early travels as a panic up to run.
type (
	faultPanic string
	fuelPanic  struct{}
)

func (e *environment) run(g reflect.Value, args []reflect.Value, done chan<- Result) {
	// A bad address in this goroutine is a panic, not the end of the test.
	debug.SetPanicOnFault(true)
	var r Result
	defer func() {
		switch stop := recover().(type) {
		case nil:
		case fuelPanic:
			r.OutOfFuel = true
		case faultPanic:
			r.Faulted, r.Reason = true, string(stop)
		default:
			r.Faulted, r.Reason = true, strings.TrimPrefix(fmt.Sprint(stop), "runtime error: ")
		}
		r.Fuel = e.spent
		done <- r
	}()
	r.Outcome = g.Call(args)[0].Interface().(libpie.Verdict).Outcome()
	if r.Kind == libpie.Rewritten {
		r.Args = e.args
	}
}

// fill sets a parameter from the words that begin at next, and returns the word
// behind them.
func (e *environment) fill(v reflect.Value, next int) int {
	e.p.tb.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			next = e.fill(v.Field(i), next)
		}
		return next
	case reflect.Pointer:
		v.Set(reflect.NewAt(v.Type().Elem(), native.Pointer(e.Word(next))))
	case reflect.Bool, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int,
		reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint, reflect.Uintptr:
		native.SetWord(v, e.Word(next))
	default:
		e.p.tb.Fatalf("libpietest: a guard cannot take a %v", v.Type())
	}
	return next + 1
}

func (e *environment) Word(i int) uint64 {
	if i < 0 || i >= len(e.words) {
		return 0
	}
	return e.words[i]
}

func (e *environment) SetArg(i int, v uint64) {
	if e.args == nil {
		e.args = map[int]uint64{}
	}
	e.args[i] = v
}

func (e *environment) ReturnAddr() libpie.Addr { return e.p.ret }
func (e *environment) Tid() int32              { return e.p.tid }

func (e *environment) StackUsed() int {
	if e.p.stackUsed < 0 {
		e.Fault("a stack whose end is not known")
	}
	return e.p.stackUsed
}

func (e *environment) Global(name string) libpie.Addr {
	a, ok := e.p.globals[name]
	if !ok {
		e.p.tb.Errorf("libpietest: the guard asks for the variable %s; SetGlobal gives it an address", name)
		e.Fault("no variable " + name)
	}
	return a
}

func (e *environment) Function(name string) (start, end libpie.Addr) {
	f, ok := e.p.functions[name]
	if !ok {
		e.p.tb.Errorf("libpietest: the guard asks for the function %s; SetFunction says where it is", name)
		e.Fault("no function " + name)
	}
	return f[0], f[1]
}

func (e *environment) Invoke(name string, args []uint64) libpie.Returned {
	f, ok := e.p.invoked[name]
	if !ok {
		e.p.tb.Errorf("libpietest: the guard calls the function %s; SetInvoke says what it does", name)
	}
	if f == nil {
		e.Fault("cannot call " + name)
	}
	return f(args)
}

func (e *environment) Now() int64          { return e.p.now }
func (e *environment) Fault(reason string) { panic(faultPanic(reason)) }

func (e *environment) Spend(bytes int) {
	if e.spent += (bytes + fuelBytes - 1) / fuelBytes; e.spent > fuel {
		panic(fuelPanic{})
	}
}
