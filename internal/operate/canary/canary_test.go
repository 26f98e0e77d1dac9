package canary

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

func TestParseSteps(t *testing.T) {
	steps, err := ParseSteps("1, 10%,all")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ n, first, second, third int }{{1, 1, 1, 1}, {5, 1, 1, 5}, {40, 1, 4, 40}, {41, 1, 5, 41}} {
		if got := []int{steps[0].of(tt.n), steps[1].of(tt.n), steps[2].of(tt.n)}; got[0] != tt.first || got[1] != tt.second || got[2] != tt.third {
			t.Errorf("of %d: %v", tt.n, got)
		}
	}
	for _, tt := range []struct{ text, says string }{
		{"", "is no step"}, {"0,all", "is no step"}, {"-1,all", "is no step"}, {"x%,all", "is no share"}, {"101%,all", "is no share"}, {"NaN%,all", "is no share"},
		{"1,10%", "write all behind it"}, {"10%,1%,all", "does not come after"}, {"5,2,all", "does not come after"}, {"all,1", "does not come after"}, {"1,,all", "is no step"},
	} {
		if _, err := ParseSteps(tt.text); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.says)
		}
	}
}

func FuzzParseSteps(f *testing.F) {
	f.Add("1,10%,all")
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := ParseSteps(text)
		if err != nil {
			return
		}
		for _, n := range []int{1, 7, 1000} {
			for _, s := range steps {
				if k := s.of(n); k < 1 || k > n {
					t.Errorf("%q: %v of %d is %d", text, s, n, k)
				}
			}
			if steps[len(steps)-1].of(n) != n {
				t.Errorf("%q does not end with all", text)
			}
		}
	})
}

func TestHealth(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer s.Close()
	ctx := context.Background()
	for _, tt := range []struct {
		h    Health
		says string // "" is well
	}{
		{Health{}, ""}, {Health{Command: "true"}, ""}, {Health{Command: "echo the pool is empty; false"}, "the pool is empty"},
		{Health{URL: s.URL}, ""}, {Health{Command: "true", URL: "http://127.0.0.1:1/"}, "refused"},
	} {
		err := tt.h.check(ctx)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v", tt.h, err)
		}
	}
	status = http.StatusBadGateway
	if err := (Health{URL: s.URL}).check(ctx); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("502: %v", err)
	}
}

// A canary that is given up takes out what it has put in, not what was in before.
func TestGivingUpLeavesWhatWasIn(t *testing.T) {
	path, p := victim(t)
	before, fresh := startVictim(t, path), startVictim(t, path)
	ctx, o := t.Context(), pie.Options{Mode: pie.ModeEnforce}
	if _, err := pie.Insert(ctx, p, pie.Pids(before), o); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32 // well before the first step, ill ever after
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 1 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer s.Close()
	steps, err := ParseSteps("all")
	if err != nil {
		t.Fatal(err)
	}
	both := pie.Pids(before, fresh)
	var failed *Failed
	_, err = Run(ctx, p, both, o, Plan{Steps: steps, Wait: 200 * time.Millisecond, Health: Health{URL: s.URL}, Limits: DefaultLimits})
	if !errors.As(err, &failed) || !strings.Contains(failed.Why, "502") || failed.Out != 1 {
		t.Errorf("%+v, %v", failed, err)
	}
	all, err := pie.Status(ctx, both)
	if pids := having(p.ID, all); err != nil || !slices.Equal(pids, []int{before}) {
		t.Errorf("it is in %v, %v; want pid %d, not %d", pids, err, before, fresh)
	}
}

// victim is a program, built, and a prepatch for it.
func victim(t *testing.T) (path string, p *pie.Prepatch) {
	t.Helper()
	const testdata = "../../../cmd/pie/testdata/"
	path = filepath.Join(t.TempDir(), "victim")
	if out, err := exec.Command("gcc", "-O2", "-o", path, testdata+"victim/victim.c", testdata+"victim/other.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s(scripts/setup installs gcc)", err, out)
	}
	src, err := os.ReadFile(testdata + "guard/guard.go")
	if err != nil {
		t.Fatal(err)
	}
	if p, err = pie.Load(map[string][]byte{"guard.go": src}); err != nil {
		t.Fatal(err)
	}
	return path, p
}

// Workers that end while the time before a step is measured are not those that it guards.
func TestWorkersEndMeanwhile(t *testing.T) {
	path, p := victim(t)
	ending, staying := startVictim(t, path), startVictim(t, path)
	asked := 0
	sel := func(context.Context) ([]int, error) {
		if asked++; asked > 1 {
			return []int{staying}, nil
		}
		return []int{ending, staying}, unix.Kill(ending, unix.SIGKILL)
	}
	steps, err := ParseSteps("1,all")
	if err != nil {
		t.Fatal(err)
	}
	limits := DefaultLimits
	limits.Exits = 1
	report, err := Run(t.Context(), p, sel, pie.Options{Mode: pie.ModeEnforce}, Plan{Steps: steps, Wait: 200 * time.Millisecond, Limits: limits})
	if err != nil || report.Guarded() != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

// startVictim runs a program until the test ends.
func startVictim(t *testing.T, path string) (pid int) {
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}
