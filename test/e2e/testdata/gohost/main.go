// Command gohost is a Go program that makes a guard's life hard: it calls the
// guarded function from many goroutines, at every depth of stacks that grow,
// while the collector runs every few milliseconds, stacks are dumped and SIGPROF
// arrives. It checks every result, and answers a line on stdin with
//
//	CALLS REJECTED WRONG
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"
)

var errTooLong = errors.New("too long")

type server struct{ limit int }

// parse is the guarded function: a method with a string, a slice and three
// results of seven words. Unguarded it answers a long name with errTooLong.
//
//go:noinline
func (s *server) parse(name string, data []byte, depth int) (head string, rest []byte, err error) {
	if len(name) > s.limit {
		return "", nil, errTooLong
	}
	if depth > 0 {
		return s.deeper(name, data, depth)
	}
	return name[:1], data[1:], nil
}

// deeper has a large frame, so that the recursion makes the stack grow.
//
//go:noinline
func (s *server) deeper(name string, data []byte, depth int) (string, []byte, error) {
	var frame [512]byte
	frame[depth%len(frame)] = data[0]
	head, rest, err := s.parse(name, data, depth-1)
	if frame[depth%len(frame)] != data[0] {
		panic("the stack frame changed")
	}
	return head, rest, err
}

var calls, rejected, wrong atomic.Uint64

// work calls parse from a new goroutine each time: its stack begins small.
func work(s *server, number int) {
	name, long := fmt.Sprintf("%c-name", 'a'+number), strings.Repeat("x", 100)
	for i := 0; ; i++ {
		done := make(chan struct{})
		go func() {
			defer close(done)
			data := make([]byte, 16)
			data[0] = byte(i)
			head, rest, err := s.parse(name, data, i%40)
			calls.Add(1)
			if head != name[:1] || len(rest) != 15 || err != nil {
				wrong.Add(1)
			}
			head, rest, err = s.parse(long, data, 0)
			switch {
			case head == "" && rest == nil && err == io.EOF:
				rejected.Add(1)
			case head != "" || rest != nil || err != errTooLong:
				wrong.Add(1)
			}
		}()
		<-done
	}
}

func main() {
	s := &server{limit: 64}
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	debug.SetGCPercent(10)
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			runtime.GC()
		}
	}()
	go func() {
		buf := make([]byte, 1<<20)
		for range time.Tick(3 * time.Millisecond) {
			runtime.Stack(buf, true)
		}
	}()
	for i := range 8 {
		go work(s, i)
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(calls.Load(), rejected.Load(), wrong.Load())
	}
}
