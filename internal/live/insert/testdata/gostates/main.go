// Gostates is a Go program whose threads are in one state, over and over, under
// garbage collection, while another calls the guarded function. It checks every
// result, and says where it counts, as caller.c does.
//
//	gostates STATE THREADS
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"
)

func guarded(n int32) int32
func guardedAddr() uintptr

// stats is struct stats of victim.c; rounds counts those of each thread.
var (
	stats  struct{ calls, wrong, rejected, passed, children, badChildren, early atomic.Uint64 }
	rounds [64]atomic.Uint64
)

func call(n int32) {
	switch got := guarded(n); {
	case n < 0 && got == -7777:
		stats.rejected.Add(1)
	case got != 2*n+1:
		stats.wrong.Add(1)
	case n < 0:
		stats.passed.Add(1)
	}
	stats.calls.Add(1)
}

func caller() {
	for {
		for i := range int32(1000) {
			if i%8 == 0 {
				i = -i - 1
			}
			call(i)
		}
		time.Sleep(500 * time.Microsecond)
	}
}

func wrong(format string, args ...any) {
	fmt.Printf("wrong: "+format+"\n", args...)
	os.Exit(1)
}

func main() {
	run, ok := states[os.Args[1]]
	threads, err := strconv.Atoi(os.Args[2])
	if !ok || err != nil || threads < 1 || threads > len(rounds) {
		os.Exit(2)
	}
	fmt.Printf("exe=%#x lib=0x0 stats=%p rounds=%p\n", guardedAddr(), unsafe.Pointer(&stats), unsafe.Pointer(&rounds))
	go caller()
	for i := range threads {
		next := run(i)
		go func() {
			if os.Args[1] != "go" && os.Args[1] != "net" {
				runtime.LockOSThread()
			}
			for round := 0; ; round++ {
				next(round)
				rounds[i].Add(1)
			}
		}()
	}
	go func() {
		for ; ; time.Sleep(10 * time.Millisecond) {
			runtime.GC()
		}
	}()
	fmt.Println("ready 0x0")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
