package pie_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/recorder"
	"github.com/patch-integration-engine/pie/internal/guard/recording"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/proc"
)

const starsGuard = `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id       STARS
//pie:evidence memory

// Parse is of a server whose threads also call with what cannot be read.
//
//pie:guard exe=server func=parse onfault=reject:-1 onfuel=pass
func Parse(c *libpie.Call, s libpie.Addr, n int32) libpie.Verdict {
	first := c.Bytes(s, 1).At(0)
	m := c.Bytes(s, int(n))
	if m.Count('*') > 25 || first == '*' && m.Index('a') > 2 {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`

// busyServer is testdata/record/server.c under its own load.
type busyServer struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func startBusyServer(t *testing.T) *busyServer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server")
	build := exec.Command("gcc", "-O2", "-pthread", "-o", path, "testdata/record/server.c")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s(scripts/setup installs gcc)", build.Args, err, out)
	}
	s := &busyServer{cmd: exec.Command(path)}
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.in, s.out = in, bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	})
	return s
}

// counts asks the server how many calls it has made.
func (s *busyServer) counts(t *testing.T) (calls, wrong int) {
	t.Helper()
	if _, err := fmt.Fprintln(s.in); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscan(s.out, &calls, &wrong); err != nil {
		t.Fatalf("the server does not answer: %v", err)
	}
	return calls, wrong
}

// Calls of a server under load are taken down, whole, and replayed: the guard says
// of each what its recorder found. The server notices nothing, and nothing of what
// was recorded stays in it.
func TestRecordUnderLoad(t *testing.T) {
	s := startBusyServer(t)
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(starsGuard)})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	pid := s.cmd.Process.Pid
	before, _ := s.counts(t)
	report, err := pie.Record(context.Background(), p, pie.Pids(pid), pie.RecordOptions{For: 30 * time.Second, MaxCalls: 3000}, &file)
	if err != nil {
		t.Fatal(err)
	}
	after, wrong := s.counts(t)
	if wrong > 0 || after == before {
		t.Errorf("the server made %d calls meanwhile, %d went wrong", after-before, wrong)
	}
	if report.Recorded != 3000 || report.Calls < report.Recorded || report.Lost > 0 || len(report.Left) > 0 {
		t.Errorf("recorded: %+v", report)
	}
	rejected, faulted := recordedVerdicts(t, file.Bytes())
	replayed, err := pie.Replay(context.Background(), p, bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if replayed.Calls != report.Recorded || replayed.Unknown > 0 || replayed.Rejected != rejected+faulted || replayed.Errors != faulted {
		t.Errorf("the recorders saw %d rejected and %d errors of %d calls, the replay %+v", rejected, faulted, report.Recorded, replayed)
	}
	if rejected == 0 || faulted == 0 || rejected+faulted == report.Recorded {
		t.Errorf("%d of %d calls rejected, %d errors: the test shows nothing", rejected, report.Recorded, faulted)
	}
	status, err := pie.Status(context.Background(), pie.Pids(pid))
	if err != nil || len(status) > 0 && len(status[0].Prepatches) > 0 {
		t.Errorf("afterwards: %+v, %v", status, err)
	}
	checkWiped(t, pid)
}

// recordedVerdicts counts what the recorders saw the guard say.
func recordedVerdicts(t *testing.T, file []byte) (rejected, faulted uint64) {
	t.Helper()
	r, err := recording.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return rejected, faulted
		case err != nil:
			t.Fatal(err)
		case c.End == recorder.EndFault:
			faulted++
		case c.End != recorder.EndVerdict:
			t.Errorf("call %d ended with %d", c.Number, c.End)
		case c.Verdict.Kind() == bpf.VerdictReject:
			rejected++
		}
	}
}

// checkWiped looks for what was recorded in the memory that stays.
func checkWiped(t *testing.T, pid int) {
	t.Helper()
	p, err := proc.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	blocks := observe.BlocksIn(p, maps)
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of state", len(blocks))
	}
	b := make([]byte, blocks[0].Size)
	if _, err := p.ReadAt(b, blocks[0].At); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("aa")) {
		t.Error("what was recorded is in the process's memory still")
	}
}
