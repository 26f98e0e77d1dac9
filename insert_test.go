package pie_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// victim is a running test program; see cmd/pie/testdata/victim.
type victim struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// startVictims builds the victim and starts n of it.
func startVictims(t *testing.T, n int) []*victim {
	t.Helper()
	path := filepath.Join(t.TempDir(), "victim")
	build := exec.Command("gcc", "-O2", "-o", path, "cmd/pie/testdata/victim/victim.c", "cmd/pie/testdata/victim/other.c")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s(scripts/setup installs gcc)", build.Args, err, out)
	}
	var all []*victim
	for range n {
		v := &victim{cmd: exec.Command(path)}
		in, err := v.cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := v.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		v.in, v.out = in, bufio.NewReader(out)
		if err := v.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(v.kill)
		v.want(t, 1, "4")
		all = append(all, v)
	}
	return all
}

func (v *victim) pid() int { return v.cmd.Process.Pid }

func (v *victim) kill() {
	v.cmd.Process.Kill()
	v.cmd.Wait()
}

// want calls the victim's lookup and compares what it returns.
func (v *victim) want(t *testing.T, n int, want string) {
	t.Helper()
	if _, err := fmt.Fprintln(v.in, n); err != nil {
		t.Fatal(err)
	}
	got, err := v.out.ReadString('\n')
	if err != nil || strings.TrimSpace(got) != want {
		t.Fatalf("lookup(%d) is %q, %v; want %s", n, got, err, want)
	}
}

func loadGuard(t *testing.T) *pie.Prepatch {
	t.Helper()
	src, err := os.ReadFile("cmd/pie/testdata/guard/guard.go")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pie.Load(map[string][]byte{"guard.go": src})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pids(victims []*victim) []int {
	var out []int
	for _, v := range victims {
		out = append(out, v.pid())
	}
	return out
}

// A process that ends half-way is reported as gone; the others are guarded.
func TestInsertWhileOneEnds(t *testing.T) {
	victims := startVictims(t, 3)
	p := loadGuard(t)
	killed := false
	o := pie.Options{Mode: pie.ModeEnforce, Progress: func(step string) {
		if strings.Contains(step, fmt.Sprint(victims[1].pid())) {
			victims[1].kill()
			killed = true
		}
	}}
	r, err := pie.Insert(context.Background(), p, pie.Pids(pids(victims)...), o)
	if err != nil || !killed {
		t.Fatalf("error %v, killed %v", err, killed)
	}
	states := map[int]pie.ProcessState{}
	for _, ps := range r.Processes {
		states[ps.Pid] = ps.State
	}
	if states[victims[0].pid()] != pie.StateGuarded || states[victims[2].pid()] != pie.StateGuarded || states[victims[1].pid()] != pie.StateGone {
		t.Errorf("states %v", states)
	}
	for _, v := range []*victim{victims[0], victims[2]} {
		v.want(t, 101, "-1")
		v.want(t, 2, "5")
	}
}

// A server's new child that executes another program while its turn comes is none of those
// that were to be guarded; one that is refused, and still is of them, is told.
func TestInsertWhileOneExecutes(t *testing.T) {
	victims := startVictims(t, 1)
	other := exec.Command("sleep", "100")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	p := loadGuard(t)
	for _, tt := range []struct {
		stays bool
		want  pie.ProcessState
	}{{false, pie.StateGone}, {true, pie.StateUnguarded}} {
		asked := 0
		sel := func(context.Context) ([]int, error) {
			if asked++; asked == 1 || tt.stays {
				return []int{victims[0].pid(), other.Process.Pid}, nil
			}
			return []int{victims[0].pid()}, nil
		}
		r, err := pie.Insert(t.Context(), p, sel, pie.Options{Mode: pie.ModeEnforce})
		if err != nil || r.Guarded() != 1 || len(r.Processes) != 2 {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, ps := range r.Processes {
			if ps.Pid == other.Process.Pid && ps.State != tt.want {
				t.Errorf("selected again %v: a process of another program is %s (%s), want %s", tt.stays, ps.State, ps.Error, tt.want)
			}
		}
	}
}

// An interruption leaves each process guarded or as it was, and the report
// says which.
func TestInsertInterrupted(t *testing.T) {
	victims := startVictims(t, 3)
	p := loadGuard(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	steps := 0
	o := pie.Options{Mode: pie.ModeEnforce, Progress: func(string) {
		if steps++; steps == 2 {
			cancel()
		}
	}}
	r, err := pie.Insert(ctx, p, pie.Pids(pids(victims)...), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Processes) != 3 || r.Guarded() == 3 {
		t.Fatalf("report %+v", r)
	}
	for i, ps := range r.Processes {
		all, err := pie.Status(context.Background(), pie.Pids(ps.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if in := len(all) == 1; in != (ps.State == pie.StateGuarded) {
			t.Errorf("pid %d: reported %s, is in: %v", ps.Pid, ps.State, in)
		}
		if ps.State != pie.StateGuarded && ps.Reason != pie.CodeInterrupted {
			t.Errorf("pid %d: reason %q, %s", ps.Pid, ps.Reason, ps.Error)
		}
		victims[i].want(t, 2, "5")
	}
}

// Insert, Remove and the text of the process: what was there is there again.
func TestRemoveRestoresText(t *testing.T) {
	v := startVictims(t, 1)[0]
	ctx, sel := context.Background(), pie.Pids(v.pid())
	before, err := pie.CompareText(ctx, v.pid())
	if err != nil || before == 0 {
		t.Fatalf("%d bytes compared, %v", before, err)
	}
	if _, err := pie.Insert(ctx, loadGuard(t), sel, pie.Options{Mode: pie.ModeEnforce}); err != nil {
		t.Fatal(err)
	}
	if _, err := pie.CompareText(ctx, v.pid()); err == nil {
		t.Error("a guarded process has the file's text")
	}
	r, err := pie.Remove(ctx, "TEST-0001", sel)
	if err != nil || !r.Changed {
		t.Fatalf("%+v, %v", r, err)
	}
	if after, err := pie.CompareText(ctx, v.pid()); err != nil || after != before {
		t.Errorf("%d bytes compared after the removal, %d before; %v", after, before, err)
	}
}

// A trial turns the guard off when it rejects too much.
func TestMaxRejectEndsTrial(t *testing.T) {
	v := startVictims(t, 1)[0]
	ctx, sel := context.Background(), pie.Pids(v.pid())
	o := pie.Options{Mode: pie.ModeEnforce, Trial: time.Hour, MaxReject: 0.1}
	if _, err := pie.Insert(ctx, loadGuard(t), sel, o); err != nil {
		t.Fatal(err)
	}
	stopped := ""
	for i := 0; i < 400 && stopped == ""; i++ {
		v.want(t, 2, "5")
		all, err := pie.Status(ctx, sel)
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		if stopped = all[0].Prepatches[0].Stopped; stopped == "" && i < 200 {
			v.want(t, 101, "-1")
		}
	}
	if !strings.Contains(stopped, "--max-reject") {
		t.Errorf("the guard is not turned off: %q", stopped)
	}
}

// Two of pie at once on one process: both end well, and the guard is in once.
func TestInsertAtOnce(t *testing.T) {
	v := startVictims(t, 1)[0]
	p := loadGuard(t)
	errs := make(chan error)
	for range 4 {
		go func() {
			r, err := pie.Insert(context.Background(), p, pie.Pids(v.pid()), pie.Options{Mode: pie.ModeEnforce})
			if err == nil && r.Guarded() != 1 {
				err = fmt.Errorf("report %+v", r)
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	v.want(t, 101, "-1")
	all, err := pie.Status(context.Background(), pie.Pids(v.pid()))
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 || len(all[0].Prepatches[0].Guards) != 1 {
		t.Errorf("status %+v, %v", all, err)
	}
}

// An interrupted command does not wait for a debuginfod server.
func TestInterruptedWhileAServerIsAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	asked := make(chan struct{}, 16)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id ASKED-1

//pie:guard exe=host func=no_such_function onfault=pass onfuel=pass
func Guard(_ *libpie.Call) libpie.Verdict { return libpie.Pass() }
`)})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "host")
	pid := runHost(t, path, exec.Command("gcc", "-O2", "-s", "-pthread", "-o", path, "testdata/language/host.c")).cmd.Process.Pid
	done := make(chan error, 1)
	go func() {
		_, err := pie.Plan(ctx, p, pie.Pids(pid), pie.Options{Debuginfod: []string{server.URL}})
		done <- err
	}()
	select {
	case <-asked:
	case err := <-done:
		t.Fatalf("the server was not asked: %v", err)
	}
	cancel()
	const soon = 5 * time.Second // half of what the server has for an answer
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(soon):
		t.Error("the interrupted command waits for the server")
	}
}
