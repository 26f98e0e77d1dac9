// Goleaf calls functions without a stack check, in which goroutines are preempted, and
// checks every result, while the garbage collector, a profiler and dumps of all stacks run.
// It reads commands: "nil" has a getter meet a nil pointer and says what the panic said and
// where, "n N" asks what each leaf gives for N, "quit" ends it. It ends by itself
// where a result was wrong.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"
)

type record struct {
	first, second int
	flag          uint8
	name          string
	far           [40]int
}

//go:noinline
func (r *record) getFirst() int { return r.first }

//go:noinline
func (r *record) getSecond() int { return r.second }

//go:noinline
func (r *record) getFlag() uint8 { return r.flag }

//go:noinline
func (r *record) getFar() int { return r.far[39] }

//go:noinline
func (r *record) set(n int) { r.second = n }

//go:noinline
func (r *record) same(o *record) bool { return r.first == o.first && r.second == o.second }

// framed has a frame, and no stack check: it begins with push %rbp.
//
//go:noinline
func framed(n int) int {
	var a [8]int
	a[n&7] = n
	return a[n&7] + a[(n+1)&7]
}

// spin is a leaf in which goroutines stay for long enough to be preempted.
//
//go:noinline
func spin(n int) int {
	sum := 0
	for i := range n {
		sum = sum*31 + i
	}
	return sum
}

//go:noinline
func double(n int) int { return n + n }

// rejects is how many results were those of guards: each rejects a magic number.
var calls, rejects, panics atomic.Uint64

const magic = -77

func check(what string, got, want int) {
	switch {
	case got == want:
	case got == want+1000: // what a guard rejects with
		rejects.Add(1)
	default:
		fmt.Printf("wrong: %s gives %d, not %d\n", what, got, want)
		os.Exit(1)
	}
}

// spun is what spin(20000) gives, before anybody is guarded.
var spun = spin(20000)

func work(seed int) {
	r := &record{first: seed, flag: uint8(seed), name: strings.Repeat("x", seed%7)}
	r.far[39] = -seed
	o := &record{first: seed}
	for i := 0; ; i++ {
		n := i % 100
		if i%50 == 0 {
			n = magic
		}
		r.set(n)
		o.second = n
		check("getFirst", r.getFirst(), seed)
		check("getSecond", r.getSecond(), n)
		check("getFlag", int(r.getFlag()), int(uint8(seed)))
		check("getFar", r.getFar(), -seed)
		check("framed", framed(n), n)
		check("double", double(n), 2*n)
		if i%20 == 0 {
			check("spin", spin(20000), spun)
		}
		if !r.same(o) {
			check("same", 0, 1)
		}
		if i%500 == 0 {
			if got := meetNil(); got != wantNil {
				fmt.Printf("wrong: %s\n", got)
				os.Exit(1)
			}
			panics.Add(1)
			growing(i % 40)
		}
		calls.Add(1)
	}
}

// growing makes the stack grow, and so move.
func growing(n int) int {
	var room [64]int
	if n == 0 {
		return 0
	}
	room[n] = n
	return growing(n-1) + room[n]
}

// wantNil is what a nil dereference is before anybody is guarded.
var wantNil = meetNil()

// meetNil tells the panics of getters that meet nil, and where they say they were.
func meetNil() string {
	var none *record
	var out []string
	for _, do := range []func(){
		func() { none.getFirst() }, func() { none.getSecond() }, func() { none.getFlag() }, func() { none.getFar() }, func() { none.set(1) },
	} {
		out = append(out, panicOf(do))
	}
	return strings.Join(out, "; ")
}

func panicOf(do func()) (text string) {
	defer func() {
		err := recover()
		pcs := make([]uintptr, 20)
		frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
		text = fmt.Sprint(err)
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); strings.HasPrefix(f.Function, "main.(*record)") || strings.HasPrefix(f.Function, "main.meetNil.") {
				text += fmt.Sprintf(" in %s %s:%d", f.Function, filepath.Base(f.File), f.Line)
			}
		}
	}()
	do()
	return "no panic"
}

func main() {
	debug.SetGCPercent(10)
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		fmt.Println("wrong:", err)
	}
	for w := range 6 {
		go work(w + 1)
	}
	go func() {
		dump := make([]byte, 1<<16)
		for {
			runtime.Stack(dump, true)
			runtime.GC()
			time.Sleep(2 * time.Millisecond)
		}
	}()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var n int
		switch _, err := fmt.Sscanf(in.Text(), "n %d", &n); {
		case in.Text() == "nil":
			fmt.Println(meetNil())
		case in.Text() == "counts":
			fmt.Println(calls.Load(), rejects.Load(), panics.Load())
		case in.Text() == "crash":
			var none *record
			none.getSecond()
		case err == nil:
			r := &record{first: n, second: n}
			fmt.Println(r.getFirst(), r.getSecond(), framed(n), double(n))
		}
	}
}
