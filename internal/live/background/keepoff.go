package background

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/thread"
)

// maxThreads bounds the threads of a process that are looked at. A process with more
// computes on every CPU, or looking would take longer than it is worth.
const maxThreads = 64

// KeepOff keeps what is in the background off the CPUs that the processes compute on
// just now, if another CPU is left. At SCHED_IDLE alone a thread of pie yet takes such a
// CPU for a tick now and then, when a timer finds it waiting there (EEVDF gives it its
// small share); the program's thread feels that like a stop.
//
// It lasts until the time given to Enter is over. Outside of the background it does
// nothing, nor where the processes compute on every CPU.
func KeepOff(pids ...int) {
	// The thread that watches the time is not in the background: it keeps its CPUs,
	// and gives them to all others in the end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if thread.Policy(0) != thread.Idle {
		return
	}
	var mine unix.CPUSet
	if unix.SchedGetaffinity(0, &mine) != nil {
		return
	}
	left := mine
	for _, pid := range pids {
		for _, cpu := range computesOn(pid) {
			left.Clear(cpu)
		}
	}
	if left == mine || left.Count() == 0 {
		return
	}
	thread.Each(func(tid int) bool { return thread.Policy(tid) == thread.Idle && restrict(tid, &left) })
}

// restrict gives a thread these CPUs, and tells whether it had others.
func restrict(tid int, cpus *unix.CPUSet) bool {
	var has unix.CPUSet
	return unix.SchedGetaffinity(tid, &has) == nil && has != *cpus && unix.SchedSetaffinity(tid, cpus) == nil
}

// giveBack lets all threads run on the CPUs of the calling one again.
func giveBack() {
	var mine unix.CPUSet
	if unix.SchedGetaffinity(0, &mine) == nil {
		thread.Each(func(tid int) bool { return restrict(tid, &mine) })
	}
}

// computesOn returns the CPUs that threads of a process run on, or wait for. A process
// that cannot be looked at computes nowhere.
func computesOn(pid int) (cpus []int) {
	task := fmt.Sprintf("/proc/%d/task", pid)
	dir, err := os.Open(task)
	if err != nil {
		return nil
	}
	defer dir.Close()
	tids, err := dir.Readdirnames(maxThreads + 1)
	if err != nil || len(tids) > maxThreads {
		return nil
	}
	for _, tid := range tids {
		if cpu, runs := running(task + "/" + tid + "/stat"); runs {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// running reads a thread's state and the CPU it was last on from its stat file: the
// third and the 39th field (proc(5)).
func running(stat string) (cpu int, runs bool) {
	b, err := os.ReadFile(stat)
	if err != nil {
		return 0, false
	}
	const state, processor = 0, 36 // counted from behind the name, which may hold spaces
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= processor || string(fields[state]) != "R" {
		return 0, false
	}
	cpu, err = strconv.Atoi(string(fields[processor]))
	return cpu, err == nil
}
