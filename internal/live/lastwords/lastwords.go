// Package lastwords has a test process that is killed say which tests it was in. Only
// tests use it: those whose process PIE's own watchdog may end, by SIGKILL, after which
// "go test" says nothing but that.
//
// A second process, awk(1), reads which tests begin and end. When its input ends without a
// farewell it prints, to the standard error, those that had begun and not ended.
package lastwords

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// witness prints which lines with a + had no - yet, unless there was a dot.
const witness = `
/^[+]/ { open[substr($0, 2)] = 1 }
/^-/ { delete open[substr($0, 2)] }
/^[.]$/ { ended = 1 }
END { if (!ended) for (test in open) print "the test process was killed during " test > "/dev/stderr" }`

// Witness is told which tests run. The zero one listens to nobody.
type Witness struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// Start starts a witness. Without awk(1) it is one that listens to nobody.
func Start() *Witness {
	w := &Witness{cmd: exec.Command("awk", witness)}
	w.cmd.Stderr = os.Stderr
	in, err := w.cmd.StdinPipe()
	if err != nil || w.cmd.Start() != nil {
		return &Witness{}
	}
	w.in = in
	return w
}

// Begins says that a test runs, from now to its end.
func (w *Witness) Begins(t testing.TB) {
	if w == nil || w.in == nil {
		return
	}
	fmt.Fprintln(w.in, "+"+t.Name())
	t.Cleanup(func() { fmt.Fprintln(w.in, "-"+t.Name()) })
}

// End says that the test process ends by itself.
func (w *Witness) End() {
	if w.in == nil {
		return
	}
	fmt.Fprintln(w.in, ".")
	w.in.Close()
	_ = w.cmd.Wait()
}
