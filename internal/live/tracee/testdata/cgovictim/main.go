// Cgovictim is a Go program whose main thread was deep in C once, and calls C and
// Go in turns: its stack pointer is now on the stack that the kernel gave it, now
// on a goroutine's. It speaks as victim.c does.
package main

/*
#include <stdio.h>
#include <string.h>
#include <time.h>

__attribute__((noinline)) static int down(int depth)
{
	volatile unsigned char b[4096];
	int n = depth & 1 ? 4096 : 2048;
	for (int i = 0; i < n; i++)
		b[i] = depth & 1 ? 0 : depth + i;
	int bad = depth ? down(depth - 1) : 0;
	for (int i = 0; i < n; i++)
		bad += b[i] != (unsigned char)(depth & 1 ? 0 : depth + i);
	return bad;
}

__attribute__((noinline, aligned(64))) static int answer(int x)
{
	__asm__ volatile("" ::: "memory");
	return x + 1;
}

static void *address(void) { return (void *)answer; }

static void rest(long us)
{
	struct timespec t = {0, us * 1000};
	nanosleep(&t, NULL);
}
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

var progress atomic.Uint64

func init() { runtime.LockOSThread() } // main stays on the process's first thread

func wrong(args ...any) {
	fmt.Println(append([]any{"wrong:"}, args...)...)
	os.Exit(1)
}

func down(depth int) {
	if bad := C.down(C.int(depth)); bad != 0 {
		wrong(bad, "bytes of the stack")
	}
}

func spin() (sum uint64) {
	for i := range uint64(1_000_000) {
		sum += i * sum
	}
	return sum
}

func main() {
	down(75)
	fmt.Printf("ready %p\n", C.address())
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			fmt.Println(progress.Load(), 0)
		}
		os.Exit(0)
	}()
	for round := 0; ; round++ {
		spin()
		C.rest(500)
		if round%8 == 0 {
			down(round % 75)
		}
		time.Sleep(time.Millisecond)
		progress.Add(1)
	}
}
