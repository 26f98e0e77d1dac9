package pie_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// host is testdata/language/host.c, running.
type host struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func startHost(t *testing.T, flags ...string) *host {
	t.Helper()
	path := filepath.Join(t.TempDir(), "host")
	return runHost(t, path, exec.Command("gcc", append([]string{"-O2", "-fno-optimize-sibling-calls", "-pthread", "-o", path, "testdata/language/host.c"}, flags...)...))
}

// startGoHost is startHost for testdata/language/gohost.
func startGoHost(t *testing.T) *host {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gohost")
	return runHost(t, path, exec.Command("go", "build", "-o", path, "./testdata/language/gohost"))
}

func runHost(t *testing.T, path string, build *exec.Cmd) *host {
	t.Helper()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s(scripts/setup installs gcc)", build.Args, err, out)
	}
	h := &host{cmd: exec.Command(path)}
	in, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.in, h.out = in, bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.cmd.Process.Kill()
		h.cmd.Wait()
	})
	h.ask(t, "limit", 40)
	return h
}

// ask sends a command and returns the answer.
func (h *host) ask(t *testing.T, command string, n int) (answer int) {
	t.Helper()
	if _, err := fmt.Fprintln(h.in, command, n); err != nil {
		t.Fatal(err)
	}
	line, err := h.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &answer)
	}
	if err != nil {
		t.Fatalf("%s %d: %q, %v", command, n, line, err)
	}
	return answer
}

// guard inserts a prepatch, given as what stands below its imports.
func (h *host) guard(t *testing.T, body string) {
	t.Helper()
	text := "package prepatch\n\nimport \"github.com/patch-integration-engine/pie/libpie\"\n\n//pie:id LANG-1\n" + body
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := pie.Insert(context.Background(), p, pie.Pids(h.cmd.Process.Pid), pie.Options{Mode: pie.ModeEnforce})
	if err != nil || r.Guarded() != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// Recursion is stopped at the same depth on the main thread and on others; on a
// stack that nobody knows the end of onfault decides.
func TestStackUsedEndsRecursion(t *testing.T) {
	for _, flags := range [][]string{nil, {"-static"}} {
		t.Run(strings.Join(flags, ""), func(t *testing.T) {
			h := startHost(t, flags...)
			const deep = 5000 // more than a MiB
			h.guard(t, `
//pie:guard exe=host func=descend onfault=reject:0 onfuel=pass
func Descend(c *libpie.Call, left int64) libpie.Verdict {
	if c.StackUsed() > 256<<10 {
		return libpie.Reject(int64(0))
	}
	return libpie.Pass()
}
`)
			for _, where := range []string{"main", "thread"} {
				got := h.ask(t, where, deep)
				if most := 256 << 10 / 200; got >= most || got < most/2 {
					t.Errorf("%s: the recursion ended at depth %d", where, got)
				}
				if got := h.ask(t, where, 10); got != 11 {
					t.Errorf("%s: a flat recursion: %d", where, got)
				}
			}
			if got := h.ask(t, "coroutine", 10); got != 0 {
				t.Errorf("on a coroutine's stack: %d", got)
			}
		})
	}
}

func TestGlobalAndCalledFrom(t *testing.T) {
	h := startHost(t)
	h.guard(t, `
//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	if !c.CalledFrom("from_trusted") && key > *libpie.GlobalOf[int64](c, "limit") {
		return libpie.Reject(int64(-1))
	}
	return libpie.Pass()
}
`)
	for _, x := range []struct {
		command string
		n, want int
	}{
		{"trusted", 41, 42}, {"other", 41, -1}, {"other", 40, 41},
		{"limit", 50, 50}, {"other", 41, 42}, {"other", 51, -1}, {"trusted", 51, 52},
	} {
		if got := h.ask(t, x.command, x.n); got != x.want {
			t.Errorf("%s %d: %d, want %d", x.command, x.n, got, x.want)
		}
	}
}

// A name that the target does not have is refused with what to do.
func TestUnknownSymbol(t *testing.T) {
	h := startHost(t)
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id LANG-1

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	if c.CalledFrom("nobody") {
		return libpie.Reject(int64(-1))
	}
	return libpie.Pass()
}
`)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := pie.Insert(context.Background(), p, pie.Pids(h.cmd.Process.Pid), pie.Options{Mode: pie.ModeEnforce})
	said := fmt.Sprint(err)
	if r != nil {
		said += fmt.Sprintf(" %+v", r.Processes)
	}
	if err == nil && r.Guarded() != 0 || !strings.Contains(said, "nobody") {
		t.Errorf("%s", said)
	}
	if got := h.ask(t, "lookup", 1); got != 2 {
		t.Errorf("lookup is %d", got)
	}
}
