package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// bin holds what the transcripts run: pie, the same command built as another
// version (pie-other), and the victim.
var bin string

// noCompat: the kernel cannot run a 32-bit program, so that there is none to refuse.
var noCompat bool

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pie-script")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	if err := os.Chmod(dir, 0o755); err != nil { // other users run it too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, build := range [][]string{
		{"go", "build", "-ldflags", "-E pie_entry -X main.version=one", "-o", filepath.Join(dir, "pie"), "."},
		{"go", "build", "-ldflags", "-X main.version=other", "-o", filepath.Join(dir, "pie-other"), "."},
		{"gcc", "-O2", "-o", filepath.Join(dir, "victim"), "testdata/victim/victim.c", "testdata/victim/other.c"},
		{"gcc", "-O2", "-g", "-o", filepath.Join(dir, "victim-debug"), "testdata/victim/victim.c", "testdata/victim/other.c", "testdata/victim/described.c"},
		{"clang-14", "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-I../../libpie/c", "-c", "-o", filepath.Join(dir, "guard.o"), "testdata/guard/lookup.c"},
		{"gcc", "-m32", "-nostdlib", "-static", "-o", filepath.Join(dir, "compat"), "testdata/victim/compat.s"},
	} {
		cmd := exec.Command(build[0], build[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n%s(scripts/setup installs what is missing)\n", build, err, out)
			return 1
		}
	}
	compat := exec.Command(filepath.Join(dir, "compat"))
	switch err := compat.Start(); {
	case err == nil:
		_ = compat.Process.Kill()
		_ = compat.Wait() // what it says is that it was killed
	case errors.Is(err, unix.ENOEXEC):
		fmt.Fprintln(os.Stderr, "this kernel runs no 32-bit programs (IA-32 emulation is off): that pie refuses one is not tried")
		noCompat = true
	}
	return m.Run()
}

// TestScripts runs the transcripts: what a person types and sees. Every command
// gets a HOME of its own that is empty each time, so that nothing but the
// processes can remember what is in them.
func TestScripts(t *testing.T) {
	guard, err := filepath.Abs("testdata/guard")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := exec.Command("go", "env", "GOCACHE").Output() // pie test builds with it
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("GUARD", guard)
			e.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
			e.Setenv("OBJECT", filepath.Join(bin, "guard.o"))
			e.Setenv("DEBUG", filepath.Join(bin, "victim-debug"))
			e.Setenv("VICTIM", filepath.Join(bin, "victim"))
			e.Values[victimsKey{}] = &victims{byName: map[string]*victim{}}
			e.Defer(e.Values[victimsKey{}].(*victims).stop)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "compat" {
				return false, fmt.Errorf("no condition %q", cond)
			}
			return !noCompat, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": cmdStart, "run": cmdRun, "call": cmdCall, "exits": cmdExits, "forget": cmdForget,
			"keepcalling": cmdKeepCalling, "waitfor": cmdWaitFor,
		},
	})
}

type victimsKey struct{}

type victims struct {
	mu     sync.Mutex
	byName map[string]*victim
}

func (v *victims) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.byName {
		p.cmd.Process.Kill()
	}
	for _, p := range v.byName {
		p.cmd.Wait() // a traced one waits for its tracer's death
	}
}

// victim is a running victim process.
type victim struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// cmdStart is "start NAME [COMMAND…]": starts a victim, or another command that
// answers like one, and sets $NAME to its pid.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: start NAME [COMMAND…]")
	}
	command := args[1:]
	if len(command) == 0 || strings.HasPrefix(command[len(command)-1], "-") {
		command = append(command, filepath.Join(bin, "victim"))
	}
	p := begin(ts, args[0], command)
	if got, err := p.ask("1"); err != nil || got != "4" {
		ts.Fatalf("victim %s does not work: %q, %v", args[0], got, err)
	}
}

// cmdRun is "run NAME COMMAND…": starts a command that lasts and sets $NAME to
// its pid.
func cmdRun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: run NAME COMMAND…")
	}
	begin(ts, args[0], append([]string{filepath.Join(bin, args[1])}, args[2:]...))
}

// begin starts a command; it is killed when the transcript ends.
func begin(ts *testscript.TestScript, name string, command []string) *victim {
	p := &victim{cmd: exec.Command(command[0], command[1:]...)}
	in, err := p.cmd.StdinPipe()
	ts.Check(err)
	out, err := p.cmd.StdoutPipe()
	ts.Check(err)
	p.in, p.out = in, bufio.NewReader(out)
	ts.Check(p.cmd.Start())
	all := ts.Value(victimsKey{}).(*victims)
	all.mu.Lock()
	all.byName[name] = p
	all.mu.Unlock()
	ts.Setenv(name, strconv.Itoa(p.cmd.Process.Pid))
	return p
}

const answerTimeout = 5 * time.Second

func (p *victim) ask(line string) (string, error) {
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		return "", err
	}
	type answer struct {
		s   string
		err error
	}
	c := make(chan answer, 1)
	go func() {
		s, err := p.out.ReadString('\n')
		c <- answer{strings.TrimSpace(s), err}
	}()
	select {
	case a := <-c:
		return a.s, a.err
	case <-time.After(answerTimeout):
		return "", fmt.Errorf("no answer to %q within %s", line, answerTimeout)
	}
}

// cmdCall is "call NAME LINE WANT": sends a line, compares the answer. With !
// the victim must die.
func cmdCall(ts *testscript.TestScript, neg bool, args []string) {
	p := named(ts, args)
	if neg {
		if got, err := p.ask(args[1]); err == nil {
			ts.Fatalf("the victim survived %s and said %s", args[1], got)
		}
		return
	}
	got, err := p.ask(args[1])
	ts.Check(err)
	if got != args[2] {
		ts.Fatalf("the victim answered %s to %s, want %s", got, args[1], args[2])
	}
}

// cmdKeepCalling is "keepcalling NAME LINE WANT": call, again and again, until the
// transcript ends. Nothing else may call this victim.
func cmdKeepCalling(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: keepcalling NAME LINE WANT")
	}
	p := named(ts, args)
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			got, err := p.ask(args[1])
			if err == nil && got != args[2] {
				err = fmt.Errorf("the victim answered %s to %s, want %s", got, args[1], args[2])
			}
			if err != nil {
				done <- err
				return
			}
			select {
			case <-stop:
				done <- nil
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	ts.Defer(func() {
		close(stop)
		if err := <-done; err != nil {
			ts.Fatalf("calling %s: %v", args[0], err)
		}
	})
}

// cmdWaitFor is "waitfor TEXT exec COMMAND…": runs the command until its output has
// the text.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || args[1] != "exec" {
		ts.Fatalf("usage: waitfor TEXT exec COMMAND…")
	}
	for end := time.Now().Add(waitTimeout); ; time.Sleep(50 * time.Millisecond) {
		cmd := exec.Command(filepath.Join(bin, args[2]), args[3:]...)
		out, err := cmd.CombinedOutput()
		if err == nil && strings.Contains(string(out), args[0]) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%v does not say %q within %s: %v\n%s", args[2:], args[0], waitTimeout, err, out)
		}
	}
}

const waitTimeout = 20 * time.Second

func named(ts *testscript.TestScript, args []string) *victim {
	all := ts.Value(victimsKey{}).(*victims)
	all.mu.Lock()
	defer all.mu.Unlock()
	p := all.byName[args[0]]
	if p == nil {
		ts.Fatalf("no victim %s was started", args[0])
	}
	return p
}

// cmdExits is "exits CODE COMMAND…": the command must end with this code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v ended with %d, want %d", args[1:], got, want)
	}
}

// cmdForget deletes whatever pie could have kept outside the processes.
func cmdForget(ts *testscript.TestScript, _ bool, _ []string) {
	for _, dir := range []string{ts.Getenv("HOME"), "/run/pie", "/var/lib/pie"} {
		if dir != "" && dir != "/no-home" {
			ts.Check(os.RemoveAll(dir))
		}
	}
}
