// Command govictim is a Go program whose every function, the runtime's
// included, is detoured by the test that runs it: what it prints must not
// change, under garbage collection, stack growth, preemption, profiling signals
// and panics.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sort"
	"strings"
	"sync"
	"time"
)

func main() {
	debug.SetGCPercent(5)
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		fmt.Println(err)
	}
	stop := make(chan struct{})
	go func() {
		buf := make([]byte, 1<<20)
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				runtime.Stack(buf, true)
				runtime.GC()
			}
		}
	}()
	var wg sync.WaitGroup
	sums := make([]uint64, 8)
	for w := range sums {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 60 {
				sums[w] += work(w*100 + i)
			}
		}()
	}
	wg.Wait()
	close(stop)
	pprof.StopCPUProfile()
	for _, s := range sums {
		fmt.Printf("%x\n", s)
	}
}

type node struct {
	left, right *node
	key         int
}

func (n *node) insert(key int) *node {
	switch {
	case n == nil:
		return &node{key: key}
	case key < n.key:
		n.left = n.left.insert(key)
	default:
		n.right = n.right.insert(key)
	}
	return n
}

func (n *node) sum() uint64 {
	if n == nil {
		return 0
	}
	return n.left.sum()*3 + uint64(n.key) + n.right.sum()*5
}

type record struct {
	Name  string
	Sizes []int
	Inner map[string]float64
}

func work(seed int) uint64 {
	var tree *node
	for i := range 200 {
		tree = tree.insert((seed*7919 + i*104729) % 1000)
	}
	r := record{Name: strings.Repeat("x", seed%17), Inner: map[string]float64{"a": float64(seed) / 3}}
	for i := range 20 {
		r.Sizes = append(r.Sizes, (i*seed)%31)
	}
	sort.Ints(r.Sizes)
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(r); err != nil {
		panic(err)
	}
	var back record
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		panic(err)
	}
	total := tree.sum() + uint64(b.Len()) + uint64(back.Sizes[19]) + uint64(deep(seed%50+300))
	total += uint64(len(caught(seed)))
	_, err := os.Open("/does/not/exist")
	var pe *os.PathError
	if errors.As(err, &pe) {
		total += uint64(len(pe.Error()))
	}
	return total + spin(20000)
}

//go:noinline
func deep(n int) int {
	var frame [40]int
	if n == 0 {
		return 1
	}
	frame[n%40] = n
	return deep(n-1) + frame[n%40]
}

//go:noinline
func caught(n int) (s string) {
	defer func() { s = fmt.Sprint(recover()) }()
	var p *node
	if n%2 == 0 {
		return fmt.Sprint(p.key)
	}
	return fmt.Sprint([]int{1, 2, 3}[n])
}

//go:noinline
func spin(n int) (s uint64) {
	for i := range n {
		s = s*31 + uint64(i)
	}
	return s
}
