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
	"strings"
	"sync"
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

// While recorders of one version of a prepatch are read, another version of it is
// refused, and so is the same one with other options: recording goes on.
func TestRecordOfAnotherVersion(t *testing.T) {
	s := startBusyServer(t)
	load := func(text string) *pie.Prepatch {
		p, err := pie.Load(map[string][]byte{"guard.go": []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first, second := load(starsGuard), load(strings.Replace(starsGuard, "> 25", "> 24", 1))
	pids := pie.Pids(s.cmd.Process.Pid)
	begun := make(chan struct{})
	began := sync.OnceFunc(func() { close(begun) })
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var report *pie.RecordReport
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		report, err = pie.Record(ctx, first, pids, pie.RecordOptions{Tell: func(pie.RecordReport) { began() }}, io.Discard)
	}()
	select {
	case <-begun:
	case <-ended:
		t.Fatalf("it does not begin: %+v, %v", report, err)
	}
	for name, try := range map[string]func() error{
		"another version": func() error {
			_, err := pie.Record(context.Background(), second, pids, pie.RecordOptions{For: time.Second}, io.Discard)
			return err
		},
		"other options": func() error {
			_, err := pie.Record(context.Background(), first, pids, pie.RecordOptions{For: time.Second, Evidence: pie.EvidenceArgs}, io.Discard)
			return err
		},
	} {
		if err := try(); pie.ReasonOf(err) != pie.CodeRecord || !strings.Contains(err.Error(), "is being recorded by pid") {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop()
	if <-ended; err != nil || report.Recorded == 0 || report.Lost > 0 || report.Why != "interrupted" || len(report.Left) > 0 {
		t.Errorf("the first: %+v, %v", report, err)
	}
	if report, err := pie.Record(context.Background(), second, pids, pie.RecordOptions{For: 30 * time.Second, MaxCalls: 100}, io.Discard); err != nil || report.Recorded != 100 {
		t.Errorf("afterwards: %+v, %v", report, err)
	}
}

// Children that live for a quarter of a second are recorded, all of them.
func TestRecordOfChildren(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	build := exec.Command("gcc", "-O2", "-o", path, "testdata/record/forking.c")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s(scripts/setup installs gcc)", build.Args, err, out)
	}
	server := exec.Command(path)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { server.Process.Kill(); server.Wait() }()
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(starsGuard)})
	if err != nil {
		t.Fatal(err)
	}
	report, err := pie.Record(context.Background(), p, pie.Pids(server.Process.Pid), pie.RecordOptions{For: 3 * time.Second}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Processes) < 5 || report.Recorded < 100 {
		t.Errorf("%d processes, %d calls of %d: %+v", len(report.Processes), report.Recorded, report.Calls, report)
	}
	t.Logf("%d processes, %d of %d calls", len(report.Processes), report.Recorded, report.Calls)
}
