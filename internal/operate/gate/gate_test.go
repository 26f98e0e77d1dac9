package gate

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guardSource rejects what kills the victim. That it sets errno means that it
// needs the C library mapped and relocated.
const guardSource = `// Package prepatch guards the victim.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id TEST-GATE

//pie:guard exe=victim func=lookup onfault=pass onfuel=pass
func Lookup(_ *libpie.Call, n int32) libpie.Verdict {
	if n > 100 {
		return libpie.RejectErrno(libpie.EINVAL, int32(-1))
	}
	return libpie.Pass()
}
`

// registerSource rejects the same, and has to do with nothing but the executable.
var registerSource = strings.Replace(guardSource, "RejectErrno(libpie.EINVAL, int32(-1))", "Reject(int32(-1))", 1)

func victim(t testing.TB, flags ...string) File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "victim")
	if out, err := exec.Command("gcc", append(flags, "-O2", "-o", path, "testdata/victim.c")...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s(scripts/setup installs what is missing)", err, out)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return File{Path: path, Dev: st.Dev, Inode: st.Ino, Use: []int{0}}
}

func start(t testing.TB, files ...File) *Gate {
	t.Helper()
	return startWith(t, guardSource, files...)
}

func startWith(t testing.TB, source string, files ...File) *Gate {
	t.Helper()
	g, err := Start(Config{Limit: MaxLimit, Files: files, Prepatches: []Prepatch{{ID: "TEST-GATE", Sources: map[string][]byte{"guard.go": []byte(source)}}}})
	if err != nil {
		t.Fatalf("%v (the tests run as root, where fanotify is to be had)", err)
	}
	t.Cleanup(func() {
		_ = g.process.Process.Signal(unix.SIGCONT) // a test that went wrong may have left it stopped
		g.Close()
		for range g.Reports() { // until it has ended
		}
	})
	time.Sleep(time.Second) // the worker compiles; until then processes are late
	return g
}

// run executes the victim and returns its exit status, minus the signal that
// killed it, and what the gate says of it.
func run(t *testing.T, g *Gate, path, arg string) (int, Report, time.Duration) {
	t.Helper()
	began := time.Now()
	cmd := exec.Command(path, arg)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	took := time.Since(began)
	status := cmd.ProcessState.ExitCode()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		status = -int(ws.Signal())
	}
	for {
		select {
		case r, ok := <-g.Reports():
			if !ok {
				t.Fatal("the gate ended")
			}
			if r.Pid == cmd.Process.Pid {
				return status, r, took
			}
		case <-time.After(2 * time.Second):
			t.Fatalf("no word of pid %d", cmd.Process.Pid)
		}
	}
}

// A process that the gate calls guarded was guarded before its first
// instruction. On a busy machine some come late, and say so.
func TestGuardedBeforeItRuns(t *testing.T) {
	for _, tt := range []struct {
		name   string
		flags  []string
		source string
		want   int // status of a victim whose guard was in time
	}{
		{"dynamic", nil, guardSource, 7},
		{"static", []string{"-static"}, guardSource, 7},
		{"fixed address", []string{"-no-pie"}, guardSource, 7},
		{"lazy binding", []string{"-Wl,-z,lazy"}, guardSource, 7},
		{"a guard that needs no library", nil, registerSource, 1},
		{"and goes in before there is one", []string{"testdata/gadget.c"}, registerSource, 1},
		{"a guard that needs one all the same", []string{"testdata/gadget.c"}, guardSource, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := victim(t, tt.flags...)
			g := startWith(t, tt.source, f)
			guarded := 0
			for range 15 {
				status, r, _ := run(t, g, f.Path, "101")
				switch {
				case r.Kind == Guarded && r.Window > 0, r.Kind == Late, r.Kind == Refused && r.Window > 0: // told as such
					time.Sleep(300 * time.Millisecond)
				case r.Kind == Guarded && status == tt.want:
					guarded++
				default:
					t.Fatalf("status %d, %+v", status, r)
				}
				if status, r, _ := run(t, g, f.Path, "4"); status != 4 {
					t.Fatalf("a good call: status %d, %+v", status, r)
				}
			}
			if t.Logf("%d of 15 guarded before they ran", guarded); guarded == 0 && !raced {
				t.Error("all were late")
			}
		})
	}
}

// helpersOf finds the processes of a gate that have a name.
func helpersOf(t *testing.T, g *Gate, name string) []int {
	t.Helper()
	var out []int
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", g.Pid()))
	for _, f := range all {
		b, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(s)
			if line, _ := os.ReadFile("/proc/" + s + "/cmdline"); strings.HasPrefix(string(line), name) {
				out = append(out, pid)
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("the gate has no %s", name)
	}
	return out
}

// sendTo sends a signal to one process, never to a group or to all.
func sendTo(pid int, sig unix.Signal) error {
	if pid <= 1 {
		return fmt.Errorf("pid %d", pid)
	}
	return unix.Kill(pid, sig)
}

// Workers that are stopped hold nobody for long (the limit, and what a busy
// machine adds), and are replaced. What is held by one that is killed goes on.
func TestStoppedWorker(t *testing.T) {
	f := victim(t)
	g := start(t, f)
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
		for _, w := range helpersOf(t, g, workerName) {
			if err := sendTo(w, sig); err != nil {
				t.Fatal(err)
			}
		}
		status, r, took := run(t, g, f.Path, "4")
		if status != 4 || r.Kind != Late && sig == unix.SIGSTOP || r.Held > 10*MaxLimit || took > time.Second {
			t.Errorf("%v: status %d, %+v, took %v", sig, status, r, took)
		}
		time.Sleep(time.Second)
		if status, r, _ := run(t, g, f.Path, "101"); r.Kind == Guarded && status != 7 {
			t.Errorf("with the next worker: status %d, %+v", status, r)
		}
	}
}

// A gate that is stopped is ended, with its workers, and nobody waits for it: when
// it is stopped before an exec, and while it holds one that its workers, stopped
// too, do not come to.
func TestStoppedGate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		holding bool
	}{{"idle", false}, {"holding", true}} {
		t.Run(tt.name, func(t *testing.T) {
			f := victim(t)
			g := start(t, f)
			workers, pid := helpersOf(t, g, workerName), g.Pid()
			cmd, stopped := exec.Command(f.Path, "4"), make(chan error, 1)
			if tt.holding {
				for _, w := range workers {
					_ = sendTo(w, unix.SIGSTOP)
				}
				time.AfterFunc(8*time.Millisecond, func() { stopped <- sendTo(pid, unix.SIGSTOP) })
			} else {
				stopped <- sendTo(pid, unix.SIGSTOP)
			}
			began := time.Now()
			_ = cmd.Run()
			took := time.Since(began)
			if t.Logf("the exec took %v", took); cmd.ProcessState.ExitCode() != 4 || took > 10*MaxLimit {
				t.Errorf("status %d after %v", cmd.ProcessState.ExitCode(), took)
			}
			if err := <-stopped; err != nil {
				t.Fatal(err)
			}
			_ = exec.Command(f.Path, "4").Run() // the first may have been let go of before the stop
			for end := time.After(5 * time.Second); ; {
				select {
				case _, ok := <-g.Reports():
					if ok {
						continue
					}
				case <-end:
					t.Error("the stopped gate was not ended")
				}
				break
			}
			for _, w := range workers {
				ended(t, w)
			}
		})
	}
}

// A second that is stopped or killed is replaced, and the next does its duty; the gate's
// death is that of its second, stopped or not.
func TestStoppedSecond(t *testing.T) {
	f := victim(t)
	g := start(t, f)
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
		time.Sleep(restartPause)
		old := helpersOf(t, g, secondName)[0]
		if err := sendTo(old, sig); err != nil {
			t.Fatal(err)
		}
		ended(t, old)
		if status, r, _ := run(t, g, f.Path, "4"); status != 4 || r.Kind == Broken {
			t.Errorf("%v: status %d, %+v", sig, status, r)
		}
	}
	time.Sleep(2 * restartPause)
	second := helpersOf(t, g, secondName)[0]
	if err := sendTo(g.Pid(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := exec.Command(f.Path, "4").Run(); time.Since(began) > 10*MaxLimit {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	ended(t, second)
}

// Without the gate nobody waits, and no helper stays behind, stopped or not.
func TestKilledGate(t *testing.T) {
	f := victim(t)
	g := start(t, f)
	helpers := append(helpersOf(t, g, workerName), helpersOf(t, g, secondName)...)
	for _, h := range helpers {
		if err := sendTo(h, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(f.Path, "4")
	if err := sendTo(g.Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 4 || time.Since(began) > time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	for range g.Reports() {
	}
	for _, h := range helpers {
		ended(t, h)
	}
}

// ended waits until a process has ended; it ends one that outlives its time.
func ended(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); runs(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			_ = sendTo(pid, unix.SIGKILL)
			t.Errorf("pid %d outlived its gate", pid)
			return
		}
	}
}

// runs tells whether pid has not ended; who reaps it is another matter.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// The interpreter of a script is opened while the kernel holds a lock that the
// seize waits for: neither waits for the other for long.
func TestScript(t *testing.T) {
	f := victim(t)
	g := start(t, f)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!"+f.Path+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		status, r, took := run(t, g, script, "4")
		told := r.Kind == Guarded || r.Kind == Late || r.Kind == Refused && r.Window > 0 // let go of while it was linked
		if status != 1 || !told || took > time.Second {
			t.Errorf("status %d, %+v, took %v", status, r, took)
		}
		t.Logf("%s, held %v, unguarded %v", r.Kind, r.Held, r.Window)
	}
}

func TestUnmarkable(t *testing.T) {
	f := victim(t)
	f.Inode++
	g, err := Start(Config{Files: []File{f}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if g.Marked != 0 {
		t.Error("marked another file than the one named")
	}
}

func TestParseEvents(t *testing.T) {
	event := func(size uint32, fd, pid int32) []byte {
		b := make([]byte, size)
		binary.LittleEndian.PutUint32(b, size)
		b[4] = unix.FANOTIFY_METADATA_VERSION
		binary.LittleEndian.PutUint32(b[16:], uint32(fd))
		binary.LittleEndian.PutUint32(b[20:], uint32(pid))
		return b
	}
	two := append(event(24, 5, 100), event(32, 6, 101)...)
	if got := parseEvents(two); len(got) != 2 || got[1].fd != 6 || got[1].tid != 101 {
		t.Errorf("%+v", got)
	}
	if got := parseEvents(append(event(24, unix.FAN_NOFD, 100), two[:30]...)); len(got) != 1 || got[0].fd != 5 {
		t.Errorf("an overflow and a cut event: %+v", got)
	}
}

func FuzzParseEvents(f *testing.F) {
	f.Add(make([]byte, 48))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(parseEvents(b)); n > len(b)/eventSize {
			t.Errorf("%d events in %d bytes", n, len(b))
		}
	})
}
