// Command gohost is host.c for Go: functions that language_test.go guards, called
// by a command and a number a line.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

//go:noinline
func lookup(key int) int {
	if key == -12345 {
		fmt.Println("a reason to have a stack frame")
	}
	return key + 1
}

//go:noinline
func descend(left int) int {
	var frame [100]byte
	frame[left&63] = 1
	if left == 0 {
		return 1
	}
	return descend(left-1) + int(frame[left&63])
}

//go:noinline
func edit(text []byte, n int) int {
	if n < 0 {
		fmt.Println("a reason to have a stack frame")
	}
	return int(text[n])
}

// many has results in all of the nine registers that Go has for them.
//
//go:noinline
func many(n int) (int, string, []byte, error, bool) {
	if n == -12345 {
		fmt.Println("a reason to have a stack frame")
	}
	return n, "fine", []byte("abc"), nil, false
}

// sum tells by one number what many has returned.
func sum(n int) int {
	a, s, b, err, ok := many(n)
	r := a + 10*len(s) + 100*len(b) + 1000*cap(b)
	if err == io.EOF && err.Error() == "EOF" {
		r += 100_000
	}
	if ok {
		r += 1_000_000
	}
	return r
}

// storm calls lookup n times in each of eight goroutines, and returns how many
// calls came through.
func storm(n int) int {
	var all sync.WaitGroup
	var through atomic.Int64
	for range 8 {
		all.Go(func() {
			for range n {
				if lookup(7) == 8 {
					through.Add(1)
				}
			}
		})
	}
	all.Wait()
	return int(through.Load())
}

var text []byte // in memory that can be written

func main() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var command string
		var n int
		if _, err := fmt.Sscan(in.Text(), &command, &n); err != nil {
			return
		}
		r := -99
		switch command {
		case "limit":
			r = n
		case "lookup":
			r = lookup(n)
		case "many":
			r = sum(n)
		case "edit":
			text = append(text[:0], "abcdefgh"...)
			r = edit(text, n)
		case "main":
			r = descend(n)
		case "thread":
			c := make(chan int)
			go func() { c <- descend(n) }()
			r = <-c
		case "storm":
			r = storm(n)
		}
		fmt.Println(r)
	}
}
