package canary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

const moodsGuard = `// Package prepatch guards the program of the test.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id TEST-MOODS

//pie:guard exe=moods func=check onfault=pass onfuel=pass
func Check(c *libpie.Call, s libpie.Addr, n int32) libpie.Verdict {
	if n < 0 {
		x := uint64(s)
		for x != 1 {
			x = x*6364136223846793005 + 2
		}
	}
	if c.Bytes(s, 4).At(0) == '*' {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`

// moodsGroup is a group of processes of testdata/moods.c, which may get new ones.
type moodsGroup struct {
	path, file string
	mu         sync.Mutex
	cmds       []*exec.Cmd
}

func (g *moodsGroup) start(t *testing.T, mood string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(g.path, mood, g.file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cmds = append(g.cmds, cmd)
	return cmd
}

// hasEnded tells whether a child is a zombie (proc(5), the third field of stat).
func hasEnded(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

// live are the processes that run.
func (g *moodsGroup) live(context.Context) ([]int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var pids []int
	for _, c := range g.cmds {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.Process.Pid)); err == nil && exe == g.path {
			pids = append(pids, c.Process.Pid)
		}
	}
	return pids, nil
}

// Each limit ends a canary when it is passed, with its flag in the reason, and takes the
// guards out again; within the limits the same canary comes to its end.
func TestLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "moods")
	if out, err := exec.Command("gcc", "-O2", "-o", path, "testdata/moods.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s(scripts/setup installs gcc)", err, out)
	}
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(moodsGuard)})
	if err != nil {
		t.Fatal(err)
	}
	few := Limits{Rejects: 0.01, CPU: 3}
	for _, tt := range []struct {
		name, mood string
		again      bool // one that ends is started anew
		limits     Limits
		why        string // "": it comes to its end
	}{
		{"well", "none", false, few, ""},
		{"exits", "end", false, few, "--max-exits 0"},
		{"exits allowed", "end", false, Limits{Exits: 2, Rejects: 0.01, CPU: 3}, ""},
		{"restarts", "end", true, few, "--max-restarts 0"},
		{"restarts allowed", "end", true, Limits{Exits: 2, Restarts: 2, Rejects: 0.01, CPU: 3}, ""},
		{"guard errors", "fault", false, few, "--max-errors 0"},
		{"guard errors allowed", "fault", false, Limits{Errors: 1 << 20, Rejects: 0.01, CPU: 3}, ""},
		{"ran too long", "long", false, few, "--max-ran-long 0"},
		{"ran too long allowed", "long", false, Limits{RanLong: 1 << 20, Rejects: 0.01, CPU: 3}, ""},
		{"errors allowed, ran too long", "long", false, Limits{Errors: 5, Rejects: 0.01, CPU: 3}, "--max-ran-long 0"},
		{"rejects", "reject", false, few, "--max-reject 1%"},
		{"rejects allowed", "reject", false, Limits{Rejects: 0.5, CPU: 3}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := &moodsGroup{path: path, file: filepath.Join(t.TempDir(), "now")}
			moody, calm := g.start(t, tt.mood), g.start(t, "none")
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for !hasEnded(moody.Process.Pid) { // a wait would take the stops that the tracer waits for
					time.Sleep(5 * time.Millisecond)
				}
				_ = moody.Wait()
				if tt.again {
					g.start(t, "none")
				}
			}()
			t.Cleanup(func() {
				_ = moody.Process.Kill()
				<-ended
				for _, c := range g.cmds[1:] {
					_ = c.Process.Kill()
					_ = c.Wait()
				}
			})
			var asked atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				if asked.Add(1) == 2 { // the guards are in, the watch begins
					_ = os.WriteFile(g.file, nil, 0o644)
				}
			}))
			defer s.Close()
			steps, err := ParseSteps("all")
			if err != nil {
				t.Fatal(err)
			}
			_, err = Run(t.Context(), p, g.live, pie.Options{Mode: pie.ModeEnforce},
				Plan{Steps: steps, Wait: 1500 * time.Millisecond, Health: Health{URL: s.URL}, Limits: tt.limits})
			var failed *Failed
			switch {
			case tt.why == "" && err != nil:
				t.Errorf("given up: %v", err)
			case tt.why != "" && (!errors.As(err, &failed) || !strings.Contains(failed.Why, tt.why)):
				t.Errorf("%v; want %q", err, tt.why)
			}
			pids, _ := g.live(t.Context())
			all, err := pie.Status(t.Context(), pie.Pids(pids...))
			for _, a := range all {
				for _, in := range a.Prepatches {
					if in.Mode != pie.ModeEnforce || in.Stopped != "" {
						t.Errorf("afterwards it is in mode %s, %s", in.Mode, in.Stopped)
					}
				}
			}
			if in := slices.Contains(having(p.ID, all), calm.Process.Pid); err != nil || in != (tt.why == "") {
				t.Errorf("afterwards it is in: %v, %v", in, err)
			}
		})
	}
}

// A process that uses more processor time than before, by more than the limit, ends a
// canary; one that used next to none before does not, nor one that is not guarded.
func TestProcessorLimit(t *testing.T) {
	pid := os.Getpid()
	r := &run{plan: Plan{Limits: Limits{CPU: 3, CPUMargin: 0.25}}, total: &pie.Report{Processes: []pie.ProcessReport{{Pid: pid, State: pie.StateGuarded}}}}
	for _, tt := range []struct {
		was  float64 // processors in use
		used time.Duration
		why  string
	}{
		{0.1, 4 * time.Second, "0.40 processors, 0.10 before: more than --max-cpu 3 times, and more than --cpu-margin 0.25 beyond it"},
		{0.1, 2 * time.Second, ""},
		{0.06, 3 * time.Second, ""}, // five times as much, which may be one client more
		{0.06, 4 * time.Second, "0.40 processors, 0.06 before"},
		{0.5, 9 * time.Second, ""}, // far beyond the margin, and not three times as much
		{cpuFloor / 2, 4 * time.Second, ""},
	} {
		before := baseline{cpu: map[int]float64{pid: tt.was}, at: time.Now().Add(-10 * time.Second), used: map[int]time.Duration{pid: cpuTimes([]int{pid})[pid] - tt.used}}
		if why := r.lookAtCPU(before); !strings.Contains(why, tt.why) || why != "" && tt.why == "" {
			t.Errorf("%v in 10 s, %.2f processors before: %q, want %q", tt.used, tt.was, why, tt.why)
		}
	}
	r.total.Processes[0].State = pie.StateUnguarded
	if why := r.lookAtCPU(baseline{cpu: map[int]float64{pid: 0.1}, at: time.Now().Add(-10 * time.Second), used: map[int]time.Duration{pid: -time.Minute}}); why != "" {
		t.Errorf("of one that is not guarded: %s", why)
	}
}
