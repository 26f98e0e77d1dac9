package background_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/background"
)

// TestKeepOff: beside a program that computes on one CPU, what is in the background
// runs on the others alone, until its time is over.
func TestKeepOff(t *testing.T) {
	inChild(t, nil, func() {
		var mine unix.CPUSet
		if err := unix.SchedGetaffinity(0, &mine); err != nil {
			t.Fatal(err)
		}
		if mine.Count() < 2 {
			return // there is no other CPU to go to
		}
		cpu := 0
		for !mine.IsSet(cpu) {
			cpu++
		}
		pid := busyOn(t, cpu)
		background.KeepOff(pid)
		if on := idleThreadsOn(t, cpu); on != 0 {
			t.Fatal("a thread is in the background, and nothing is")
		}
		if on := threadsNotOn(t, cpu); on != 0 {
			t.Errorf("%d threads were moved, outside of the background", on)
		}
		if !background.Enter(2 * time.Second) {
			t.Fatal("root may not go into the background")
		}
		background.KeepOff(os.Getpid() + 1<<22) // there is no such process
		if on := threadsNotOn(t, cpu); on != 0 {
			t.Errorf("%d threads were moved, and nobody computes", on)
		}
		background.KeepOff(pid)
		if on := idleThreadsOn(t, cpu); on != 0 {
			t.Errorf("%d threads in the background may still run on CPU %d", on, cpu)
		}
		background.KeepOff(busyOn(t, cpu), busyOn(t, cpu+1), busyOn(t, cpu+2)) // of two CPUs none is left: it stays as it is
		for end := time.Now().Add(20 * time.Second); threadsNotOn(t, cpu) != 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d threads may not run on CPU %d when their time is over", threadsNotOn(t, cpu), cpu)
			}
		}
	})
}

// busyOn starts a program that computes on one CPU until the test is over; on the first
// one where there is no such CPU.
func busyOn(t *testing.T, cpu int) int {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var one unix.CPUSet
	one.Set(cpu)
	pinned := unix.SchedSetaffinity(cmd.Process.Pid, &one) == nil
	stat := "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat"
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(stat)
		if err != nil {
			t.Fatal(err)
		}
		const state, processor = 0, 36 // behind the name (proc(5))
		_, behind, _ := strings.Cut(string(b), "(sh) ")
		fields := strings.Fields(behind)
		if len(fields) > processor && fields[state] == "R" && (!pinned || fields[processor] == strconv.Itoa(cpu)) {
			return cmd.Process.Pid
		}
		if time.Now().After(end) {
			t.Fatalf("it does not compute: %s", b)
		}
	}
}

// idleThreadsOn counts this process's threads at SCHED_IDLE that may run on a CPU.
func idleThreadsOn(t *testing.T, cpu int) (n int) {
	eachThread(t, func(policy int, may unix.CPUSet) {
		if policy == unix.SCHED_IDLE && may.IsSet(cpu) {
			n++
		}
	})
	return n
}

// threadsNotOn counts this process's threads that may not run on a CPU.
func threadsNotOn(t *testing.T, cpu int) (n int) {
	eachThread(t, func(_ int, may unix.CPUSet) {
		if !may.IsSet(cpu) {
			n++
		}
	})
	return n
}

func eachThread(t *testing.T, f func(policy int, may unix.CPUSet)) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var may unix.CPUSet
		p, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
		if errno == 0 && unix.SchedGetaffinity(tid, &may) == nil {
			f(int(p), may)
		}
	}
}
