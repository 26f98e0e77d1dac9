package gate

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// A process that is held goes on when the one thread that traces it has exited, which is
// one of a dozen of its worker. What comes first in an exit is that the memory is given up,
// and whichever thread is the last to do so takes all of it apart: 10,000 pages, 13 ms on a
// guest whose page tables the host keeps. So a worker's tracer dies ahead of the other threads
// (hasten), and how long a hold was is known when it is over (awaitFree).

// nobody is no thread.
const nobody = 0

// hasten has the thread of the worker that traces another one exit before the worker's
// other threads do. It returns that thread, or nobody when it is none of the worker's.
func (w *worker) hasten(held int) (tracer int) {
	if held == nobody {
		return nobody
	}
	tracer = tracerOf(held)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", w.process.Process.Pid, tracer)); tracer <= 0 || err != nil {
		return nobody
	}
	setLevel(tracer, gateLevel)
	return tracer
}

// Bounds of a wait for the end of a trace: a worker that was killed is gone by then.
const (
	freeTime = 2 * time.Second
	freeLook = 200 * time.Microsecond
)

// awaitFree returns when a thread is not traced by tracer any more, or has ended.
func awaitFree(tid, tracer int) {
	for end := time.Now().Add(freeTime); tracer != nobody && tracerOf(tid) == tracer && time.Now().Before(end); {
		time.Sleep(freeLook)
	}
}

// traced tells whether somebody traces a thread, or that cannot be told: an exec may have
// given the thread its leader's number.
func traced(tid int) bool { return tracerOf(tid) != nobody }

// unknown is a tracer that cannot be told.
const unknown = -1

// tracerOf is the thread that traces another one: TracerPid of /proc/TID/status.
func tracerOf(tid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return unknown
	}
	_, rest, found := bytes.Cut(b, []byte("\nTracerPid:\t"))
	number, _, _ := bytes.Cut(rest, []byte("\n"))
	tracer, err := strconv.Atoi(string(number))
	if !found || err != nil {
		return unknown
	}
	return tracer
}
