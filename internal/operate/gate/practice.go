package gate

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// A worker's first insertion takes several times as long as those that follow:
// its code is not in memory yet, its heap is small. So before it says that it is
// ready, it guards a process of its own, which waits for a byte and ends.

const practiceName = "pie-practice"

// practised is the function that is guarded. The process that has it never calls it.
//
//go:noinline
func practised(n int) int { return n + len(os.Args) }

const practiceSource = `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id PRACTICE

//pie:guard exe=%q func=%q onfault=pass onfuel=pass
func Practice(c *libpie.Call, n int) libpie.Verdict {
	if n == 1 {
		return libpie.Reject(0)
	}
	return libpie.Pass()
}
`

// beGuarded is the main function of the process that is practised on.
func beGuarded() int {
	var b [1]byte
	if n, _ := unix.Read(configFD, b[:]); n > 0 {
		return practised(int(b[0]))
	}
	runtime.KeepAlive(practised)
	return 0
}

// practise guards such a process a few times. What goes wrong is of no account.
func (h *hands) practise() {
	self, err := os.Executable()
	if err != nil {
		return
	}
	const function = "github.com/patch-integration-engine/pie/internal/operate/gate.practised"
	p, err := pie.Load(map[string][]byte{"practice.go": fmt.Appendf(nil, practiceSource, self, function)})
	if err != nil {
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	defer w.Close()
	defer r.Close()
	cmd := command(practiceName, r)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if cmd.Start() != nil {
		return
	}
	defer cmd.Wait() // after the insertion, whose stops it would take
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for range 2 {
		_, err = h.engine.Insert(ctx, p, pie.Pids(cmd.Process.Pid), pie.Options{Mode: pie.ModeEnforce})
		if err == nil {
			_, _ = h.engine.Remove(ctx, p.ID, pie.Pids(cmd.Process.Pid))
		}
	}
}
