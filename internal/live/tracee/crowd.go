package tracee

import (
	"bytes"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// taskState is where a task is on its way to standing still.
type taskState uint8

const (
	taskSeized  taskState = iota // traced, running, perhaps interrupted
	taskStopped                  // stopped, and we know why
	taskAsleep                   // in uninterruptible sleep, interrupt pending
	taskGone                     // ended, or let go of
)

// task is one thread of a World.
type task struct {
	tid, group  int
	state       taskState
	running     bool // was on a CPU before the stop
	shown       bool // to World.first
	foreign     bool // a fork child, with memory of its own
	why         stop
	signal      unix.Signal // to be passed on
	interrupted time.Duration
	regs        unix.PtraceRegs
}

// restarts tells whether the kernel will make the interrupted system call
// again, at the instruction before rip.
func (t *task) restarts() bool {
	if !inSyscall(&t.regs) {
		return false
	}
	switch int64(t.regs.Rax) {
	case restartSys, restartNoIntr, restartNoHand, restartBlock:
		return true
	}
	return false
}

// pc returns the instruction the task goes on with.
func (t *task) pc() address.Addr {
	if t.restarts() {
		return address.Addr(t.regs.Rip - syscallInsnSize)
	}
	return address.Addr(t.regs.Rip)
}

// computesOn tells whether the task is on a CPU or waits for one, and which.
func (t *task) computesOn() (cpu int, runs bool) {
	const processor = 36 // from the state on; the 39th field of proc_pid_stat(5)
	var path procPath
	var text [512]byte
	line := text[:readFile(path.set(t.group, t.tid, "stat"), text[:])]
	fields := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
	if len(fields) <= processor || string(fields[0]) != "R" {
		return 0, false
	}
	cpu, err := strconv.Atoi(string(fields[processor]))
	return cpu, err == nil
}

// crowd is the tasks of a World, found by tid.
type crowd struct {
	tasks []task
	index map[int]int
	began time.Time // of the first interrupt
}

func (c *crowd) add(t task) {
	if c.index == nil {
		c.index = make(map[int]int, 64)
	}
	c.index[t.tid] = len(c.tasks)
	c.tasks = append(c.tasks, t)
}

// find returns the task with id tid, nil if there is none. The pointer is
// good until the next add.
func (c *crowd) find(tid int) *task {
	if i, ok := c.index[tid]; ok {
		return &c.tasks[i]
	}
	return nil
}

func (c *crowd) position(t *task) int { return c.index[t.tid] }

// alive counts the tasks of a thread group that have not ended.
func (c *crowd) alive(group int) int {
	n := 0
	for i := range c.tasks {
		if t := &c.tasks[i]; t.group == group && t.state != taskGone && !t.foreign {
			n++
		}
	}
	return n
}

// anyStopped returns a stopped task that shares the memory, 0 if there is none.
func (c *crowd) anyStopped() int {
	for i := range c.tasks {
		if t := &c.tasks[i]; t.state == taskStopped && !t.foreign {
			return t.tid
		}
	}
	return 0
}

// markRunning notes which tasks are on a CPU or wait for one. It is a hint: it
// orders the interrupts.
func (c *crowd) markRunning() {
	var path procPath
	var text [256]byte
	for i := range c.tasks {
		t := &c.tasks[i]
		if t.state != taskSeized {
			continue
		}
		n := readFile(path.set(t.group, t.tid, "stat"), text[:])
		if i := bytes.LastIndex(text[:n], []byte(") ")); i >= 0 && i+2 < n {
			t.running = text[i+2] == 'R'
		}
	}
}

// waitsFor tells whether a task waits for a CPU, or was seen on it.
func (c *crowd) waitsFor(cpu int) bool {
	for i := range c.tasks {
		if on, runs := c.tasks[i].computesOn(); runs && on == cpu {
			return true
		}
	}
	return false
}

// running counts the tasks that were on a CPU, or waited for one.
func (c *crowd) running() int {
	n := 0
	for i := range c.tasks {
		if c.tasks[i].running {
			n++
		}
	}
	return n
}

// threads lists the tasks that share the memory.
func (c *crowd) threads(list []Thread) []Thread {
	list = list[:0]
	for i := range c.tasks {
		t := &c.tasks[i]
		if t.foreign || (t.state != taskStopped && t.state != taskAsleep) {
			continue
		}
		list = append(list, Thread{Tid: t.tid, PC: t.pc(), SP: address.Addr(t.regs.Rsp), Asleep: t.state == taskAsleep, Shown: t.shown})
	}
	return list
}

// markShown notes that the threads that stand still were shown.
func (c *crowd) markShown() {
	for i := range c.tasks {
		t := &c.tasks[i]
		t.shown = !t.foreign && (t.state == taskStopped || t.state == taskAsleep)
	}
}
