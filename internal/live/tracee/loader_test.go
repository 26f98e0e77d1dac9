package tracee

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// loading is a program that is held from before its exec.
type loading struct {
	cmd  *exec.Cmd
	said *os.File // what it says, not waited for
	p    *Process
	held *Held
}

// hold starts a program that waits for its exec until it is held.
func hold(t testing.TB, tr *Tracer, program string, args ...string) *loading {
	t.Helper()
	return holdOf(t, tr, exec.Command("/bin/sh", append([]string{"-c", `read x; exec "$0" "$@"`, program}, args...)...))
}

// holdOf is hold for a command that reads a line before it executes the program.
func holdOf(t testing.TB, tr *Tracer, cmd *exec.Cmd) *loading {
	t.Helper()
	l := &loading{cmd: cmd}
	in, err := l.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	out := os.NewFile(uintptr(pipe[1]), "out")
	defer out.Close()
	l.said, l.cmd.Stdout = os.NewFile(uintptr(pipe[0]), "said"), out
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitReading(t, l.cmd.Process.Pid)
	if l.held, err = tr.Hold(t.Context(), l.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("x\n")); err != nil {
		t.Fatal(err)
	}
	if err := l.held.Await(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if l.p, err = Open(l.held.Pid()); err != nil {
		t.Fatal(err)
	}
	return l
}

// awaitReading waits until a process stands in read(2) of its standard input: one that has
// just been started may be inside the exec that made it, which is not the one to be held.
func awaitReading(t testing.TB, pid int) {
	t.Helper()
	for range 5000 {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid)); err == nil && strings.HasPrefix(string(b), "0 0x0 ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("pid %d does not read its standard input", pid)
}

// end lets the program go, and waits for its end.
func (l *loading) end() error {
	defer l.said.Close()
	defer l.p.Close()
	_ = l.held.Release()
	return l.cmd.Wait()
}

// read returns what the program has said so far.
func (l *loading) read() string {
	var b [16]byte
	n, _ := unix.Read(int(l.said.Fd()), b[:])
	return string(b[:max(0, n)])
}

// linker finds what the program's dynamic linker has for debuggers.
func (l *loading) linker(t testing.TB) (signs Linker) {
	t.Helper()
	maps, err := l.p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if !strings.Contains(m.Path, "/ld-") && !strings.Contains(m.Path, "libc.so") || m.Offset != 0 {
			continue
		}
		f, err := elf.Open(m.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		symbols, err := f.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range symbols {
			switch s.Name {
			case "_dl_debug_state":
				signs.Ready = m.Start + address.Addr(s.Value)
			case "_r_debug":
				signs.State = m.Start + address.Addr(s.Value) + 24
			}
		}
	}
	return signs
}

// build compiles testdata/loaded/loaded.c.
func buildLoaded(t *testing.T, compiler string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "loaded")
	args := append([]string{"-O2", "-o", path, "testdata/loaded/loaded.c"}, flags...)
	if out, err := exec.Command(compiler, append(args, "-lm")...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s(scripts/setup installs what is missing)", compiler, err, out)
	}
	return path
}

// When the linker is done all is mapped and not one initializer has run, however that
// is found out; the program then does what it always does.
func TestRunLoader(t *testing.T) {
	tr := newTracer(t)
	for _, tt := range []struct {
		name     string
		compiler string
		flags    []string
		library  string // that is mapped in the end
		followed bool   // from system call to system call, too
	}{
		{"glibc", "gcc", nil, "libm.so", true},
		{"fixed address, lazy", "gcc", []string{"-no-pie", "-Wl,-z,lazy"}, "libm.so", true},
		{"no RELRO", "gcc", []string{"-Wl,-z,norelro"}, "libm.so", false},
		{"musl", "musl-gcc", nil, "", true},
		{"static", "gcc", []string{"-static"}, "", true},
	} {
		path := buildLoaded(t, tt.compiler, tt.flags...)
		for _, known := range []bool{true, false} {
			if !known && !tt.followed {
				continue
			}
			t.Run(fmt.Sprintf("%s known=%v", tt.name, known), func(t *testing.T) {
				l := hold(t, tr, path)
				var signs Linker
				if known {
					signs = l.linker(t)
				}
				late, err := l.held.RunLoader(t.Context(), l.p, signs, 5*time.Second)
				if err != nil || late && (tt.followed || TryBreakpoints() == nil) {
					t.Errorf("late %v, %v", late, err)
				}
				if late { // no breakpoint is ever hit on this machine: it stands at its first system call
					if err := l.end(); err != nil {
						t.Error(err)
					}
					return
				}
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", l.p.Pid()))
				if said := l.read(); said != "" || !strings.Contains(string(text), tt.library) {
					t.Errorf("it has said %q, and has mapped\n%s", said, text)
				}
				if err := l.end(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A signal that nobody may send to the program stops nothing: where the harmless ones are
// blocked, the linker is followed otherwise.
func TestRunLoaderBlockedSignals(t *testing.T) {
	tr := newTracer(t)
	path := buildLoaded(t, "gcc")
	l := holdOf(t, tr, exec.Command("/usr/bin/env", "--block-signal=URG", "--block-signal=WINCH", "/bin/sh", "-c", `read x; exec "$0"`, path))
	if st, err := taskStatus(l.p.Pid(), l.p.Pid()); err != nil || st.SigBlk&(1<<(unix.SIGURG-1)) == 0 {
		t.Fatalf("SIGURG is not blocked: %#x, %v", st.SigBlk, err)
	}
	if _, err := l.held.RunLoader(t.Context(), l.p, l.linker(t), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := l.end(); err != nil || l.read() != "" {
		t.Error(err)
	}
}

// A process that was let go of meanwhile lives and runs: that is no end of it.
func TestRunLoaderLetGoOf(t *testing.T) {
	l := hold(t, newTracer(t), "/bin/sleep", "60")
	t.Cleanup(func() { _ = l.cmd.Process.Kill(); _ = l.end() })
	if err := l.held.Release(); err != nil {
		t.Fatal(err)
	}
	_, err := l.held.RunLoader(t.Context(), l.p, Linker{}, 5*time.Second)
	if !errors.Is(err, ErrNoExec) || errors.Is(err, ErrGone) {
		t.Errorf("%v, want ErrNoExec", err)
	}
	if err := l.p.Check(); err != nil {
		t.Errorf("it was let go of, and %v", err)
	}
}

// loadUnderSpy is the spy's operation "load": it holds process pid, which waits to read
// from a pipe, and runs its loader.
func loadUnderSpy(tr *Tracer, pid int, pipe string) error {
	ctx := context.Background()
	held, err := tr.Hold(ctx, pid)
	if err != nil {
		return err
	}
	if err := os.WriteFile(pipe, []byte("x\n"), 0); err != nil {
		return err
	}
	if err := held.Await(ctx, 5*time.Second); err != nil {
		return err
	}
	p, err := Open(pid)
	if err != nil {
		return err
	}
	defer p.Close()
	l := &loading{p: p}
	if _, err := held.RunLoader(ctx, p, l.linker(&testing.T{}), 5*time.Second); err != nil {
		return err
	}
	return held.Release()
}

// Whichever step a tracer dies at, the program runs as if nobody had looked: no
// breakpoint stays, no signal ends it.
func TestRunLoaderSweep(t *testing.T) {
	v := spiedLoad{program: buildLoaded(t, "gcc"), pipe: filepath.Join(t.TempDir(), "pipe")}
	if err := unix.Mkfifo(v.pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	said := v.killedAt(t, 0)
	names, done := strings.CutPrefix(said, "done ")
	if !done {
		t.Fatalf("%s", said)
	}
	steps := telling(strings.Fields(names))
	t.Logf("killed at %d of %d steps", len(steps), len(strings.Fields(names)))
	for _, step := range steps {
		if said := v.killedAt(t, step); !strings.HasPrefix(said, strconv.Itoa(step)+" ") && !strings.HasPrefix(said, "done") {
			t.Fatalf("step %d: %s", step, said)
		}
	}
}

// telling returns the steps, counted from 1, at which a tracer is killed: all of them in
// the long run. Where a program is followed from system call to system call most are one
// step again and again; of those with the same names around them the short run takes the
// first, the last and every 16th.
func telling(names []string) (steps []int) {
	last, seen := map[string]int{}, map[string]int{}
	around := func(i int) string { return strings.Join(names[max(0, i-2):min(len(names), i+3)], " ") }
	for i := range names {
		last[around(i)] = i
	}
	for i := range names {
		a := around(i)
		if os.Getenv("PIE_TEST_LONG") != "" || seen[a]%16 == 0 || last[a] == i {
			steps = append(steps, i+1)
		}
		seen[a]++
	}
	return steps
}

// spiedLoad is a program that a shell executes as soon as it reads a line from the pipe.
type spiedLoad struct{ program, pipe string }

// killedAt has a spy hold the program and run its linker, and die at a step; none is step
// 0. It returns what the spy said, and holds the program to what it says unwatched.
func (v spiedLoad) killedAt(t *testing.T, step int) string {
	t.Helper()
	victim := exec.Command("/bin/sh", "-c", `read x <"$1"; exec "$0"`, v.program, v.pipe)
	var said strings.Builder
	victim.Stdout = &said
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	spy := exec.Command("/proc/self/exe")
	spy.Args = []string{spyName, "load", strconv.Itoa(victim.Process.Pid), "0", "0", strconv.Itoa(step), strconv.Itoa(int(unix.SIGKILL))}
	spy.Env = append(os.Environ(), "PIE_SPY_PIPE="+v.pipe)
	out, err := spy.CombinedOutput()
	if err == nil != (strings.HasPrefix(string(out), "done")) {
		t.Errorf("step %d: %v\n%s", step, err, out)
	}
	// Before its exec the shell may still wait to be told.
	if f, err := os.OpenFile(v.pipe, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		_, _ = io.WriteString(f, "x\n")
		f.Close()
	}
	ended := make(chan error, 1)
	go func() { ended <- victim.Wait() }()
	select {
	case err := <-ended:
		if err != nil || said.String() != "cm" {
			t.Errorf("%s: the program said %q: %v", out, said.String(), err)
		}
	case <-time.After(5 * time.Second):
		_ = victim.Process.Kill()
		<-ended
		t.Fatalf("%s: the program stands still", out)
	}
	return string(out)
}

// BenchmarkLoader measures how long a program takes from its exec to the end of its
// dynamic linking under RunLoader: a small one, one of many libraries, and one that
// PIE_LOAD names.
func BenchmarkLoader(b *testing.B) {
	programs := []string{"/bin/true", "/usr/bin/gdb"}
	if p := os.Getenv("PIE_LOAD"); p != "" {
		programs = append(programs, p)
	}
	for _, known := range []bool{true, false} {
		for _, program := range programs {
			b.Run(fmt.Sprintf("known=%v/%s", known, filepath.Base(program)), func(b *testing.B) {
				t, err := NewTracer(Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer t.Close()
				var loading time.Duration
				for b.Loop() {
					l := hold(b, t, program, "--version")
					began := time.Now()
					var signs Linker
					if known {
						signs = l.linker(b)
						began = time.Now()
					}
					if _, err := l.held.RunLoader(b.Context(), l.p, signs, 5*time.Second); err != nil {
						b.Fatal(err)
					}
					loading += time.Since(began)
					var status *exec.ExitError
					if err := l.end(); err != nil && !errors.As(err, &status) {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(loading.Microseconds())/1e3/float64(b.N), "load-ms")
			})
		}
	}
}
