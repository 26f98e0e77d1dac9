// Govictim is a Go program that checks its own results under garbage
// collection, growing stacks and timers. It speaks as victim.c does.
package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sync/atomic"
	"time"
)

var progress atomic.Uint64

// answer is what tests patch: the lowest byte of the number becomes a 2. The
// number is too large for a one-byte operand: 48 05 01 01 01 00.
//
//go:noinline
func answer(x int) int { return x + added }

const added = 0x10101

// deep grows the stack and looks at every frame on the way back.
//
//go:noinline
func deep(n int, canary uint64) uint64 {
	var local [16]uint64
	for i := range local {
		local[i] = canary + uint64(i)
	}
	if n > 0 {
		if got := deep(n-1, canary+1); got != canary+1 {
			wrong("deep returned", got)
		}
	}
	for i := range local {
		if local[i] != canary+uint64(i) {
			wrong("frame", n)
		}
	}
	return canary
}

func wrong(args ...any) {
	fmt.Println(append([]any{"wrong:"}, args...)...)
	os.Exit(1)
}

func work(id int) {
	for round := 0; ; round++ {
		done := make(chan uint64)
		go func() { done <- deep(50+round%100, uint64(round)) }()
		if got := <-done; got != uint64(round) {
			wrong("goroutine", id, got)
		}
		if r := answer(round); r != round+added && r != round+added+1 {
			wrong("answer", round, r)
		}
		if round%50 == 0 {
			began := time.Now()
			time.Sleep(2 * time.Millisecond)
			if time.Since(began) < 2*time.Millisecond {
				wrong("sleep of", time.Since(began))
			}
		}
		progress.Add(1)
	}
}

func main() {
	for id := range 4 {
		go work(id)
	}
	go func() {
		for ; ; time.Sleep(5 * time.Millisecond) {
			runtime.GC()
		}
	}()
	fmt.Printf("ready %#x\n", reflect.ValueOf(answer).Pointer())
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		fmt.Println(progress.Load(), 0)
	}
}
