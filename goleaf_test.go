package pie_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// leaves is testdata/language/goleaf, running.
type leaves struct {
	cmd  *exec.Cmd
	in   io.Writer
	out  *bufio.Reader
	errs strings.Builder
}

// startLeaves builds the program with flags and starts it.
func startLeaves(t *testing.T, flags ...string) *leaves {
	t.Helper()
	path := filepath.Join(t.TempDir(), "goleaf")
	build := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "./testdata/language/goleaf")...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	v := &leaves{cmd: exec.Command(path)}
	v.cmd.Env = append(os.Environ(), "GOMAXPROCS=4")
	v.cmd.Stderr = &v.errs
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
	t.Cleanup(func() {
		v.cmd.Process.Kill()
		v.cmd.Wait()
	})
	return v
}

// ask sends a command and returns the answer; the program says by itself what is wrong.
func (v *leaves) ask(t *testing.T, command string) string {
	t.Helper()
	_, err := fmt.Fprintln(v.in, command)
	line, rerr := v.out.ReadString('\n')
	if err != nil || rerr != nil || strings.HasPrefix(line, "wrong") {
		v.cmd.Wait()
		t.Fatalf("%s: %q, %v, %v\n%.4000s", command, line, err, rerr, v.errs.String())
	}
	return strings.TrimSpace(line)
}

func (v *leaves) counts(t *testing.T) (calls, rejects, panics int) {
	t.Helper()
	line := v.ask(t, "counts")
	if _, err := fmt.Sscan(line, &calls, &rejects, &panics); err != nil {
		t.Fatalf("counts: %q", line)
	}
	return calls, rejects, panics
}

// leafGuards are guards in front of leaves that begin with instructions of every kind: one
// to seven bytes, and such as fault when they meet nil.
const leafGuards = `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id LEAF-1

type Record struct { First, Second int64; Flag uint8 }

//pie:guard exe=goleaf func=main.(*record).getFirst onfault=pass onfuel=pass
func First(c *libpie.Call, r *Record) libpie.Verdict {
	if r.First == -77 {
		return libpie.Reject(int64(-77 + 1000))
	}
	return libpie.Pass()
}

//pie:guard exe=goleaf func=main.(*record).getSecond onfault=pass onfuel=pass
func Second(c *libpie.Call, r *Record) libpie.Verdict {
	if r.Second == -77 {
		return libpie.Reject(int64(-77 + 1000))
	}
	return libpie.Pass()
}

//pie:guard exe=goleaf func=main.(*record).getFlag onfault=pass onfuel=pass
func Flag(c *libpie.Call, r *Record) libpie.Verdict {
	if r.Flag == 200 {
		return libpie.Reject(uint8(201))
	}
	return libpie.Pass()
}

//pie:guard exe=goleaf func=main.(*record).getFar onfault=pass onfuel=pass
func Far(c *libpie.Call, r libpie.Addr) libpie.Verdict {
	if r == 1 {
		return libpie.Reject(int64(0))
	}
	return libpie.Pass()
}

//pie:guard exe=goleaf func=main.(*record).set onfault=pass onfuel=pass
func Set(c *libpie.Call, r libpie.Addr, n int64) libpie.Verdict {
	if n == -78 {
		return libpie.RejectVoid()
	}
	return libpie.Pass()
}

//pie:guard exe=goleaf func=main.framed onfault=pass onfuel=pass
func Framed(c *libpie.Call, n int64) libpie.Verdict {
	if n == -77 {
		return libpie.Reject(int64(-77 + 1000))
	}
	return libpie.Pass()
}

//pie:guard exe=goleaf func=main.spin onfault=pass onfuel=pass
func Spin(c *libpie.Call, n int64) libpie.Verdict {
	if n < 0 {
		return libpie.Reject(int64(0))
	}
	return libpie.Pass()
}

//pie:guard exe=goleaf func=main.double onfault=pass onfuel=pass
func Double(c *libpie.Call, n int64) libpie.Verdict {
	if n == -77 {
		return libpie.Reject(int64(-154 + 1000))
	}
	return libpie.Pass()
}
`

func loadLeafGuards(t *testing.T) *pie.Prepatch {
	t.Helper()
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(leafGuards)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Guards go in front of Go's leaves and out again, over and over, while goroutines run them
// and are preempted in them, under garbage collection, dumps of all stacks and a profiler.
// Every result is right, and a nil dereference is the panic that it was: with the same
// words, at the same line.
func TestGoLeaves(t *testing.T) {
	for _, build := range [][]string{nil, {"-buildmode=pie"}} {
		t.Run(strings.Join(build, ""), func(t *testing.T) { cycleLeaves(t, startLeaves(t, build...)) })
	}
}

func cycleLeaves(t *testing.T, v *leaves) {
	p, sel, ctx := loadLeafGuards(t), pie.Pids(v.cmd.Process.Pid), context.Background()
	e, err := pie.NewEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	was := v.ask(t, "nil")
	if !strings.Contains(was, "invalid memory address or nil pointer dereference in main.(*record).getSecond main.go:") {
		t.Fatalf("a nil dereference is %q", was)
	}
	rounds := 100
	if os.Getenv("PIE_TEST_LONG") != "" {
		rounds = 3000
	}
	for round := range rounds {
		r, err := e.Insert(ctx, p, sel, pie.Options{Mode: pie.ModeEnforce})
		if err != nil || r.Guarded() != 1 {
			t.Fatalf("round %d: %+v, %v", round, r, err)
		}
		if got := v.ask(t, "n -77"); got != "923 923 923 846" {
			t.Fatalf("round %d: guarded, and it says %s", round, got)
		}
		if got := v.ask(t, "n 7"); got != "7 7 7 14" {
			t.Fatalf("round %d: guarded, and it says %s", round, got)
		}
		if got := v.ask(t, "nil"); got != was {
			t.Fatalf("round %d: guarded, and a nil dereference is\n%s\nwas\n%s", round, got, was)
		}
		if round%20 == 0 {
			time.Sleep(300 * time.Millisecond)
		}
		if _, err := e.Remove(ctx, "LEAF-1", sel); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if got := v.ask(t, "n -77"); got != "-77 -77 -77 -154" {
			t.Fatalf("round %d: removed, and it says %s", round, got)
		}
	}
	calls, rejects, panics := v.counts(t)
	t.Logf("%d calls, %d rejected, %d panics recovered", calls, rejects, panics)
	if rejects == 0 || panics == 0 {
		t.Errorf("no guard rejected, or nothing panicked")
	}
	if _, err := pie.CompareText(ctx, v.cmd.Process.Pid); err != nil {
		t.Error(err)
	}
}

// A panic that nobody recovers ends the program as it did: with the leaf in its traceback.
func TestGoLeafCrash(t *testing.T) {
	var told [2]string
	for i := range told {
		v := startLeaves(t)
		v.ask(t, "nil")
		if i == 1 {
			r, err := pie.Insert(context.Background(), loadLeafGuards(t), pie.Pids(v.cmd.Process.Pid), pie.Options{Mode: pie.ModeEnforce})
			if err != nil || r.Guarded() != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		fmt.Fprintln(v.in, "crash")
		err := v.cmd.Wait()
		var lines []string
		for _, l := range strings.Split(v.errs.String(), "\n") {
			if l = strings.TrimSpace(l); strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "[signal") || strings.Contains(l, "getSecond") || strings.Contains(l, "goleaf/main.go") {
				l, _, _ = strings.Cut(l, " pc=")
				lines = append(lines, l)
			}
		}
		told[i] = fmt.Sprintf("%v\n%s", err, strings.Join(lines[:min(6, len(lines))], "\n"))
	}
	if told[0] != told[1] || !strings.Contains(told[0], "getSecond") {
		t.Errorf("unguarded:\n%s\nguarded:\n%s", told[0], told[1])
	}
}
