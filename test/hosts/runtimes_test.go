package hosts

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// Runtimes of other languages as hosts of a guarded native library: the Java
// virtual machine, compiling and in its simple compiler alone, Node and Rust. Each
// has threads, signal handlers and stacks of its own, and uses SIGSEGV itself.
func TestRuntimes(t *testing.T) {
	library := build(t, "libnative.so", "gcc", "-shared", "-fPIC", "-Wl,-soname,libnative.so", "native.c", "careful.c", "guarded.c")
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		name string
		argv func(t *testing.T) []string
	}{
		{"java", func(t *testing.T) []string { return java(t, library) }},
		{"java c1", func(t *testing.T) []string { return java(t, library, "-XX:TieredStopAtLevel=1") }},
		{"java interpreter, checking", func(t *testing.T) []string { return java(t, library, "-Xint", "-Xss256k") }},
		{"node", func(*testing.T) []string { return []string{"node", filepath.Join(data, "host.js"), library} }},
		{"rust", func(t *testing.T) []string {
			return []string{build(t, "rusthost", "rustc", "host.rs", "-C", "link-arg="+library, "-C", "link-arg=-Wl,-rpath,"+programs)}
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			argv := r.argv(t)
			h := start(t, nil, argv[0], argv[1:]...)
			h.cycles(guard(t, "HOST-1", "lib=libnative.so"), 2)
			h.faults(careful(t, "lib=libnative.so"), pie.Options{})
		})
	}
}

// java is the command that runs Host.
func java(t *testing.T, library string, options ...string) []string {
	t.Helper()
	classes := build(t, "classes", "javac", "Host.java")
	return append(append([]string{"java", "-Xmx128m", "-cp", classes}, options...), "Host", library)
}

// faults has a guard read, again and again, what cannot be read: each time it ends
// with onfault, the runtime sees no signal, and its own still reach it.
func (h *host) faults(p *pie.Prepatch, o pie.Options) pie.GuardStatus {
	h.t.Helper()
	h.insertWith(p, o)
	h.calls(10 * perHalf)
	g := h.status(p.ID)
	if g.Errors == 0 || g.Rejects != 0 {
		h.t.Errorf("%v: %+v", h.cmd.Args, g)
	}
	h.t.Logf("faults by %s: %d of %d calls", g.Faults, g.Errors, g.Calls)
	h.calls(10 * perHalf)
	h.remove(p.ID)
	h.calls(perHalf)
	h.asItsFiles()
	return g
}

// A guard's fault on a signal stack that has room for one signal frame: by table it
// would need a second one; copied reads need none, and are chosen by themselves.
func TestFaultOnSmallSignalStack(t *testing.T) {
	path := build(t, "stacks", "gcc", "-pthread", "stacks.c", "careful.c", "guarded.c")
	h := start(t, nil, path, "unreadable")
	h.calls(perHalf)
	for _, o := range []pie.Options{{}, {CopyReads: true}} {
		if g := h.faults(careful(t, exeOf(path)), o); g.Faults != "copy" {
			t.Errorf("reads by %s", g.Faults)
		}
	}
}

// A program that puts signal handlers of its own in the place of PIE's, while guards rely
// on them: it is seen, inserted again the guards rely on none, whether they were taken out
// before or not, and a crash of the program's still ends it, though each handler hands on to
// the other.
func TestHandlersThatComeLate(t *testing.T) {
	for _, x := range []struct {
		name   string
		remove bool
	}{{"taken out and inserted", true}, {"inserted once more", false}} {
		t.Run(x.name, func(t *testing.T) { handlersComeLate(t, x.remove) })
	}
}

func handlersComeLate(t *testing.T, remove bool) {
	path := build(t, "late", "gcc", "-pthread", "late.c", "careful.c", "guarded.c")
	h, p := start(t, nil, path), careful(t, exeOf(path))
	h.insert(p)
	if g := h.status(p.ID); g.Faults != "table" {
		t.Errorf("reads by %s", g.Faults)
	}
	h.tell("handlers")
	all, err := pie.Status(h.context(), pie.Pids(h.pid()))
	if err != nil {
		t.Fatal(err)
	}
	if !all[0].HandlersUnasked {
		t.Error("not asked about its handlers, and that is not said")
	}
	if err := pie.CheckHandlers(h.context(), all); err != nil || all[0].HandlersUnasked || !all[0].ReadsAtRisk || !strings.Contains(all[0].Problem, "SIGSEGV") {
		t.Errorf("asked about its handlers: %+v, %v", all[0], err)
	}
	if remove {
		h.remove(p.ID)
	}
	h.insert(p)
	h.tell("unreadable")
	h.calls(perHalf)
	if g := h.status(p.ID); g.Faults != "copy" || g.Errors == 0 {
		t.Errorf("inserted again: %+v", g)
	}
	if _, err := io.WriteString(h.in, "crash\n"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = h.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patient):
		t.Fatal("a crash does not end it")
	}
	if s := h.cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGSEGV {
		t.Errorf("it ended by %v", s.Signal())
	}
}

// tell gives the host an order, and waits until it is carried out.
func (h *host) tell(order string) {
	h.t.Helper()
	if _, err := io.WriteString(h.in, order+"\n"); err != nil {
		h.t.Fatal(err)
	}
	select {
	case line := <-h.lines:
		if line != order {
			h.t.Fatalf("%v says %q to %q", h.cmd.Args, line, order)
		}
	case <-time.After(patient):
		h.t.Fatalf("%v does not answer", h.cmd.Args)
	}
}

func (h *host) status(id string) pie.GuardStatus {
	h.t.Helper()
	all, err := pie.Status(h.context(), pie.Pids(h.pid()))
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 || all[0].Prepatches[0].ID != id {
		h.t.Fatalf("%v: %+v, %v", h.cmd.Args, all, err)
	}
	return all[0].Prepatches[0].Guards[0]
}

// careful is a prepatch that reads what its function only takes.
func careful(t testing.TB, where string) *pie.Prepatch {
	t.Helper()
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(fmt.Sprintf(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id HOST-CAREFUL

// Guard rejects texts that begin with "!".
//
//pie:guard %s func=careful onfault=pass onfuel=pass
func Guard(c *libpie.Call, n int32, text libpie.Addr) libpie.Verdict {
	if c.Bytes(text, 1).At(0) == '!' {
		return libpie.Reject(int32(-7777))
	}
	return libpie.Pass()
}
`, where))})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
