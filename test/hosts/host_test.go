package hosts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/live/lastwords"
)

// programs is where what is built lies; others than root run it, too.
var programs string

// witness says in which test this process was killed, if it was.
var witness *lastwords.Witness

// patient is how long another program, gdb or a Java virtual machine, may take to get somewhere
// on a slow machine. No promise of PIE's is measured by it.
const patient = 60 * time.Second

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if order := os.Getenv(cyclerOrder); order != "" {
		return cycler(order)
	}
	dir, err := os.MkdirTemp("", "pie-hosts")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	witness = lastwords.Start()
	defer witness.End()
	return m.Run()
}

// build compiles a host once and returns its path.
func build(t testing.TB, name, compiler string, args ...string) string {
	t.Helper()
	out := filepath.Join(programs, name)
	if _, err := os.Stat(out); err == nil {
		return out
	}
	cmd := exec.Command(compiler, append(toOutput(compiler, out), args...)...)
	cmd.Dir = "testdata"
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: scripts/setup installs what is missing\n%s", cmd.Args, err, text)
	}
	return out
}

// toOutput are a compiler's options for an optimised out.
func toOutput(compiler, out string) []string {
	switch compiler {
	case "javac":
		return []string{"-d", out}
	case "rustc":
		return []string{"-O", "-o", out}
	}
	return []string{"-O2", "-o", out}
}

// host is a running program that counts.
type host struct {
	t     testing.TB
	cmd   *exec.Cmd
	mem   *os.File
	stats int64
	in    io.WriteCloser
	lines chan string
	child int // pid of a child of it that a test is about
}

// stats is struct stats of host.h.
type stats struct{ Calls, Wrong, Rejected, Passed uint64 }

// start runs a program that says "ready ADDRESS".
func start(t testing.TB, attr *syscall.SysProcAttr, path string, args ...string) *host {
	t.Helper()
	witness.Begins(t)
	h := &host{t: t, cmd: exec.Command(path, args...), lines: make(chan string, 4)}
	h.cmd.SysProcAttr, h.cmd.Stderr = attr, os.Stderr
	h.cmd.Dir = t.TempDir()
	if attr != nil && attr.Credential != nil {
		h.cmd.Dir = "/" // the other is root's
	}
	var err error
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait()
	})
	go func() {
		defer close(h.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			h.lines <- s.Text()
		}
	}()
	h.waitReady()
	return h
}

func (h *host) pid() int { return h.cmd.Process.Pid }

func (h *host) waitReady() {
	h.t.Helper()
	select {
	case line := <-h.lines:
		if _, err := fmt.Sscanf(line, "ready 0x%x", &h.stats); err != nil {
			h.t.Fatalf("%v says %q: %v", h.cmd.Args, line, err)
		}
	case <-time.After(patient):
		h.t.Fatalf("%v says nothing", h.cmd.Args)
	}
	if h.mem != nil {
		return
	}
	var err error
	if h.mem, err = os.Open(fmt.Sprintf("/proc/%d/mem", h.pid())); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.mem.Close() })
}

func (h *host) read() (s stats) {
	h.t.Helper()
	b := make([]byte, 32)
	if n, err := h.mem.ReadAt(b, h.stats); n != len(b) {
		h.t.Fatalf("%v has ended: %v", h.cmd.Args, err)
	}
	_, _ = binary.Decode(b, binary.LittleEndian, &s)
	return s
}

// calls waits until n more calls were made and returns what came of them.
func (h *host) calls(n uint64) stats {
	h.t.Helper()
	from := h.read()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		now := h.read()
		if now.Wrong != 0 {
			h.t.Fatalf("%v: %d wrong results", h.cmd.Args, now.Wrong)
		}
		if now.Calls >= from.Calls+n {
			return stats{now.Calls - from.Calls, 0, now.Rejected - from.Rejected, now.Passed - from.Passed}
		}
		if time.Since(begin) > patient {
			state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid()))
			h.t.Fatalf("%v made only %d calls\n%s", h.cmd.Args, now.Calls-from.Calls, state)
		}
	}
}

// guard is a prepatch for the hosts' function in where ("exe=plain").
func guard(t testing.TB, id, where string) *pie.Prepatch {
	t.Helper()
	p, err := loadGuard(id, where)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func loadGuard(id, where string) (*pie.Prepatch, error) {
	return pie.Load(map[string][]byte{"guard.go": guardSource(id, where)})
}

func guardSource(id, where string) []byte {
	return []byte(fmt.Sprintf(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id       %s
//pie:evidence memory

// Guard rejects negative numbers and texts that begin with "!".
//
//pie:guard %s func=guarded onfault=pass onfuel=pass
func Guard(c *libpie.Call, n int32, text libpie.Addr) libpie.Verdict {
	if n < 0 || c.Bytes(text, 1).At(0) == '!' {
		return libpie.Reject(int32(-7777))
	}
	return libpie.Pass()
}
`, id, where))
}

// guardNumbers is a prepatch that rejects negative numbers, and reads no memory.
func guardNumbers(t testing.TB, id, where string) *pie.Prepatch {
	t.Helper()
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(fmt.Sprintf(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id %s

//pie:guard %s func=guarded onfault=pass onfuel=pass
func Guard(_ *libpie.Call, n int32) libpie.Verdict {
	if n < 0 {
		return libpie.Reject(int32(-7777))
	}
	return libpie.Pass()
}
`, id, where))})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// quietCycles puts a prepatch of guardNumbers in and takes it out again, in a sandbox in
// which other guards are refused. Two of three calls that are not harmless have such a number.
func (h *host) quietCycles(p *pie.Prepatch) {
	h.t.Helper()
	for range 3 {
		h.insertWith(p, pie.Options{})
		h.settles("guarded", func(s stats) bool { return s.Rejected > s.Passed && s.Passed > 0 })
		h.remove(p.ID)
		h.unguarded()
		h.asItsFiles()
	}
}

func exeOf(path string) string { return "exe=" + filepath.Base(path) }

// perHalf is how many calls are watched in each state; some hosts make few.
const perHalf = 300

// cycles records calls, then inserts the guard and removes it again, n times.
func (h *host) cycles(p *pie.Prepatch, n int) {
	h.t.Helper()
	h.calls(perHalf)
	h.records(p)
	for range n {
		h.insert(p)
		h.guarded()
		h.remove(p.ID)
		h.unguarded()
		h.asItsFiles()
	}
}

// records takes down calls, none of which is rejected meanwhile, and replays them:
// the guard would reject the attacks among them.
func (h *host) records(p *pie.Prepatch) {
	h.t.Helper()
	var file bytes.Buffer
	before := h.read()
	r, err := pie.Record(h.context(), p, pie.Pids(h.pid()), pie.RecordOptions{For: 3 * time.Second, MaxCalls: 200}, &file)
	if err != nil || len(r.Left) > 0 || r.Recorded == 0 {
		h.t.Fatalf("%v: recording: %+v, %v", h.cmd.Args, r, err)
	}
	if after := h.read(); after.Rejected != before.Rejected {
		h.t.Fatalf("%v: %d calls were rejected while they were recorded", h.cmd.Args, after.Rejected-before.Rejected)
	}
	back, err := pie.Replay(h.context(), p, &file)
	if err != nil || back.Calls != r.Recorded || back.Unknown != r.Cut || back.Rejected == 0 || back.Rejected == back.Calls {
		h.t.Fatalf("%v: recorded %+v, replayed %+v, %v", h.cmd.Args, r, back, err)
	}
	h.unguarded()
	h.asItsFiles()
}

func (h *host) insert(p *pie.Prepatch) {
	h.t.Helper()
	h.insertWith(p, pie.Options{})
}

func (h *host) insertWith(p *pie.Prepatch, o pie.Options) {
	h.t.Helper()
	o.Mode, o.Build = pie.ModeEnforce, "test"
	r, err := pie.Insert(h.context(), p, pie.Pids(h.pid()), o)
	if err != nil || r.Guarded() != 1 {
		h.t.Fatalf("%v: inserting: %+v, %v", h.cmd.Args, r, err)
	}
}

func (h *host) remove(id string) {
	h.t.Helper()
	r, err := pie.Remove(h.context(), id, pie.Pids(h.pid()))
	if err != nil || len(r.Processes) != 1 || r.Processes[0].Error != "" {
		h.t.Fatalf("%v: removing: %+v, %v", h.cmd.Args, r, err)
	}
}

// guarded wants attacks rejected, once the calls in flight have returned: on a busy
// machine a thread may stay in one for a while.
func (h *host) guarded() {
	h.t.Helper()
	h.settles("guarded", func(s stats) bool { return s.Passed == 0 && s.Rejected > 0 })
}

// unguarded wants no call rejected any more, once those in flight have returned.
func (h *host) unguarded() {
	h.t.Helper()
	h.settles("not guarded", func(s stats) bool { return s.Rejected == 0 && s.Passed > 0 })
}

func (h *host) settles(state string, ok func(stats) bool) {
	h.t.Helper()
	var s stats
	for range 10 {
		if s = h.calls(perHalf); ok(s) {
			return
		}
	}
	h.t.Fatalf("%v is %s, and %+v", h.cmd.Args, state, s)
}

// refused wants the insertion refused for a reason, and nothing changed.
func (h *host) refused(p *pie.Prepatch, reason pie.Code) {
	h.t.Helper()
	_, err := pie.Insert(h.context(), p, pie.Pids(h.pid()), pie.Options{Mode: pie.ModeEnforce, Build: "test"})
	if pie.ReasonOf(err) != reason {
		h.t.Errorf("%v: inserting: %v instead of %s", h.cmd.Args, err, reason)
	}
	h.calls(perHalf)
	h.asItsFiles()
}

func (h *host) asItsFiles() {
	h.t.Helper()
	if n, err := pie.CompareText(h.context(), h.pid()); err != nil || n == 0 {
		h.t.Fatalf("%v: %d bytes compared: %v", h.cmd.Args, n, err)
	}
}

func (h *host) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	h.t.Cleanup(cancel)
	return ctx
}

// names joins words to what a subtest is called.
func names(words ...string) string { return strings.Join(words, " ") }

// threads are those with a line in their status.
func (h *host) threads(line string) (tids []string) {
	h.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", h.pid()))
	if err != nil || len(files) == 0 {
		h.t.Fatalf("%v: %d threads, %v", h.cmd.Args, len(files), err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), line) {
			tids = append(tids, filepath.Base(filepath.Dir(f)))
		}
	}
	return tids
}

// waitStatus waits for a line in /proc/PID/status.
func (h *host) waitStatus(line string) {
	h.t.Helper()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid()))
		if err == nil && strings.Contains(string(text), line) {
			return
		}
		if time.Since(begin) > patient {
			h.t.Fatalf("no %q in the status of %v: %v\n%s", line, h.cmd.Args, err, text)
		}
	}
}
