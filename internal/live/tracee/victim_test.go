package tracee

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/lastwords"
)

// programs holds what TestMain built.
var programs string

// witness says in which test this process was killed, if it was.
var witness *lastwords.Witness

// patient is how long a victim may take to get somewhere on a slow machine, when nobody stops it.
const patient = 60 * time.Second

func TestMain(m *testing.M) {
	if spyMain() || hogMain() {
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tracee")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	if err := os.Chmod(dir, 0o755); err != nil { // other users run them too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	witness = lastwords.Start()
	defer witness.End()
	return m.Run()
}

// build compiles the programs of testdata.
func build(dir string) error {
	sources, err := filepath.Glob("testdata/*.c")
	if err != nil {
		return err
	}
	for _, src := range sources {
		name := strings.TrimSuffix(filepath.Base(src), ".c")
		args := []string{"-O2", "-mavx2", "-pthread", "-o", filepath.Join(dir, name), src}
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("building %s (the tests need gcc): %w\n%s", src, err, out)
		}
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "govictim"), "./testdata/govictim").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building govictim: %w\n%s", err, out)
	}
	return nil
}

// victim is a program that checks itself; see testdata/victim.c.
type victim struct {
	t      testing.TB
	cmd    *exec.Cmd
	in     *os.File
	lines  chan string
	answer address.Addr // of its function answer
}

// startVictim runs program with args, which says "ready ADDRESS".
func startVictim(t testing.TB, program string, args ...string) *victim {
	t.Helper()
	return startVictimAs(t, nil, program, args...)
}

// mainless is victim whose main thread ends.
const mainless = "victim without main"

func startVictimAs(t testing.TB, user *syscall.Credential, program string, args ...string) *victim {
	t.Helper()
	if program == mainless {
		program, args = "victim", append(args, "mainless")
	}
	v := &victim{t: t, cmd: exec.Command(filepath.Join(programs, program), args...), lines: make(chan string, 16)}
	witness.Begins(t)
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v.in, v.cmd.Stdin, v.cmd.Stdout, v.cmd.Stderr = in, theirIn, theirOut, os.Stderr
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	go func() {
		defer close(v.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			v.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = v.cmd.Process.Kill()
		_ = v.cmd.Wait()
		in.Close()
		out.Close()
	})
	if _, err := fmt.Sscanf(v.line(patient), "ready 0x%x", &v.answer); err != nil {
		t.Fatalf("victim: %v", err)
	}
	return v
}

// waitMainEnded waits until the main thread has ended.
func (v *victim) waitMainEnded() {
	v.t.Helper()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		st, err := taskStatus(v.pid(), v.pid())
		if err == nil && st.State == 'Z' {
			return
		}
		if time.Since(begin) > patient {
			v.t.Fatalf("%v: its main thread does not end: %+v, %v", v.cmd.Args, st, err)
		}
	}
}

func (v *victim) pid() int { return v.cmd.Process.Pid }

func (v *victim) line(d time.Duration) string {
	v.t.Helper()
	select {
	case s, ok := <-v.lines:
		if !ok {
			v.t.Fatalf("victim %v has ended: %v", v.cmd.Args, v.cmd.Wait())
		}
		if strings.HasPrefix(s, "wrong") {
			v.t.Fatalf("victim %v: %s", v.cmd.Args, s)
		}
		return s
	case <-time.After(d):
		st, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid()))
		v.t.Fatalf("victim %v does not answer within %v\n%s", v.cmd.Args, d, st)
	}
	return ""
}

// report asks for the progress made and the EINTRs seen.
func (v *victim) report() (progress, interrupted uint64) {
	v.t.Helper()
	return v.ask("\n")
}

func (v *victim) ask(line string) (progress, interrupted uint64) {
	v.t.Helper()
	if _, err := v.in.WriteString(line); err != nil {
		v.line(time.Second) // says why it has ended
		v.t.Fatalf("victim: %v", err)
	}
	if _, err := fmt.Sscanf(v.line(10*frozen), "%d %d", &progress, &interrupted); err != nil {
		v.t.Fatalf("victim: %v", err)
	}
	return progress, interrupted
}

// frozen is how long a victim may make no progress, whatever becomes of its tracer.
const frozen = 600 * time.Millisecond

// mustProgress checks that the victim lives, that each of its threads goes on and
// has seen nothing wrong, and returns how long that took.
func (v *victim) mustProgress() time.Duration {
	v.t.Helper()
	begin := time.Now()
	for before, _ := v.ask("mark\n"); ; time.Sleep(2 * time.Millisecond) {
		if now, _ := v.report(); now > before {
			return time.Since(begin)
		}
		if time.Since(begin) > 10*frozen {
			v.t.Fatalf("victim %v makes no progress", v.cmd.Args)
		}
	}
}

// worker returns a thread that does the victim's work: not the main one, but in
// testdata/deep.c, nor one that feeds it.
func (v *victim) worker() int {
	v.t.Helper()
	p := v.open()
	defer p.Close()
	if strings.HasSuffix(v.cmd.Path, "deep") && p.mainLives() {
		return v.pid()
	}
	tids, err := p.Tasks()
	if err != nil || len(tids) < 2 {
		v.t.Fatal(tids, err)
	}
	if strings.HasSuffix(v.cmd.Path, "situation") {
		return tids[1]
	}
	return tids[len(tids)-1]
}

func (v *victim) open() *Process {
	v.t.Helper()
	p, err := Open(v.pid())
	if err != nil {
		v.t.Fatal(err)
	}
	return p
}

func newTracer(t testing.TB) *Tracer {
	t.Helper()
	tr, err := NewTracer(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// attachTo is Attach with a thread of the test's choice; 0 leaves it to Attach.
func attachTo(tr *Tracer, p *Process, tid int, do func(*Attached) error) error {
	if tid == 0 {
		return tr.Attach(context.Background(), p, do)
	}
	return attempts(context.Background(), func() (bool, error) {
		c, ok := p.candidate(tid)
		if !ok {
			return false, fmt.Errorf("thread %d: %w", tid, ErrBusy)
		}
		return tr.attach(context.Background(), p, []candidate{c}, do)
	})
}

// mapUnmap makes two remote system calls and writes in between.
func mapUnmap(a *Attached) error {
	at, err := a.Syscall(unix.SYS_MMAP, 0, 3*pageSize, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	if err != nil {
		return err
	}
	text := []byte("written through r-x")
	if err := a.Write(address.Addr(at+pageSize-5), text); err != nil {
		return err
	}
	back := make([]byte, len(text))
	if err := a.Read(back, address.Addr(at+pageSize-5)); err != nil {
		return err
	}
	if string(back) != string(text) {
		return fmt.Errorf("read back %q", back)
	}
	_, err = a.Syscall(unix.SYS_MUNMAP, at, 3*pageSize)
	return err
}
