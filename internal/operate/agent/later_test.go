package agent

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// compile makes a program or a library of a C file of testdata.
func (w *world) compile(name, source string, flags ...string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if out, err := exec.Command("gcc", append([]string{"-O2", "-o", path, "testdata/" + source}, flags...)...).CombinedOutput(); err != nil {
		w.t.Fatalf("gcc: %v\n%s(scripts/setup installs what is missing)", err, out)
	}
	return path
}

// A library is guarded as soon as a program has loaded it.
func TestLibraryLoadedLater(t *testing.T) {
	w := layOut(t, "testdata/victim.c")
	library := w.compile("libvictim.so.1", "library.c", "-shared", "-fPIC", "-Wl,-soname,libvictim.so.1")
	w.victim = w.compile("loads", "loads.c")
	w.write("TEST-AGENT.go", strings.Replace(guardSource, "exe=victim", "exe=loads lib=libvictim.so.1", 1))
	w.policy(theRule)
	w.begin(false)
	s := w.run(exec.Command(w.victim, library))
	pid := s.cmd.Process.Pid
	w.eventually(pid, Waiting)
	if got := s.ask(0); got != "1" {
		t.Fatalf("dlopen: %s", got)
	}
	began := time.Now()
	w.eventually(pid, Guarded)
	t.Logf("guarded %v after dlopen", time.Since(began))
	if got, good := s.ask(101), s.ask(5); got != "-1" || good != "5" {
		t.Errorf("the attack: %s, a good call: %s", got, good)
	}
	if got := s.ask(0); got != "1" {
		t.Fatalf("dlopen: %s", got)
	}
	began = time.Now()
	for s.ask(101) != "-1" {
		if time.Since(began) > passInterval/2 {
			t.Fatal("what is loaded anew has no guard")
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("guarded again %v after dlopen", time.Since(began))
}

// A program of another image, in namespaces of its own, is found when it starts: no
// rule can name its file beforehand. How long it ran unguarded is measured.
func TestContainerAppears(t *testing.T) {
	w := layOut(t, "testdata/victim.c")
	w.compile("image-victim", "victim.c", "-static")
	image := filepath.Join(w.dir, "image")
	if out, err := exec.Command("sh", "-c", "mkdir -p "+image+"/srv && mv "+w.dir+"/image-victim "+image+"/srv/contained").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// A name of its own: other tests' programs are not this agent's.
	w.write("TEST-AGENT.go", strings.Replace(guardSource, "exe=victim", "exe=contained", 1))
	w.policy("TEST-AGENT exe=contained enforce")
	w.begin(false)
	cmd := exec.Command("/srv/contained")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: image, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	s := w.run(cmd)
	p := w.eventually(s.cmd.Process.Pid, Guarded)
	if !p.Held && p.Window <= 0 {
		t.Errorf("how long it ran unguarded is not known: %+v", p)
	}
	t.Logf("held: %v, unguarded for %v", p.Held, p.Window)
	if got, good := s.ask(101), s.ask(5); got != "-1" || good != "5" {
		t.Errorf("the attack: %s, a good call: %s", got, good)
	}
}

// A process that executes another program is guarded again, however it was guarded
// before; what the gate has told of an exec stays when the kernel tells of it later.
func TestExecutesAgain(t *testing.T) {
	w := layOut(t, "testdata/again.c")
	w.policy(theRule)
	w.begin(false)
	s := w.server()
	pid := s.cmd.Process.Pid
	w.eventually(pid, Guarded)
	for range 5 {
		if got := s.ask(0); got != "0" {
			t.Fatalf("it does not execute itself: %s", got)
		}
		for end := time.Now().Add(10 * time.Second); s.ask(101) != "-1"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("after its exec it is not guarded")
			}
		}
	}
	w.eventually(pid, Guarded)
	time.Sleep(2 * gateTime) // nothing is on its way any more
	known := func() (p Process) {
		if err := w.agent.request(t.Context(), func() {
			if k, ok := w.agent.keyOf(pid, "TEST-AGENT"); ok && w.agent.kept[k] != nil {
				p = *w.agent.kept[k]
			}
		}); err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := known()
	for _, tt := range []struct {
		at   time.Time
		same bool
	}{{before.Since.Add(-time.Millisecond), true}, {time.Now(), false}} {
		if err := w.agent.request(t.Context(), func() { w.agent.execed(t.Context(), execution{pid: pid, at: tt.at}) }); err != nil {
			t.Fatal(err)
		}
		if now := known(); (now.Since == before.Since) != tt.same {
			t.Errorf("an exec at %v: %+v became %+v", tt.at, before, now)
		}
	}
}

// That a process has executed itself, and was guarded anew, is in the log whoever noticed.
func TestTellsOfExecution(t *testing.T) {
	for _, pollOnly := range []bool{false, true} {
		w := layOut(t, "testdata/again.c")
		path := filepath.Join(w.dir, "log")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w.log = f
		w.policy(theRule)
		w.begin(pollOnly)
		s := w.server()
		w.eventually(s.cmd.Process.Pid, Guarded)
		s.ask(0)
		for end := time.Now().Add(10 * time.Second); s.ask(101) != "-1"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("after its exec it is not guarded")
			}
		}
		time.Sleep(gateTime) // who guarded it also says so
		w.stop()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), `"again":true`); n != 1 {
			t.Errorf("polling %v: the log tells %d times that it was guarded again:\n%s", pollOnly, n, text)
		}
	}
}

// A program that forks before its guard is in has unguarded children, of which nobody
// tells: they are guarded soon after it, not at the next pass.
func TestForksBeforeItIsGuarded(t *testing.T) {
	w := layOut(t, "testdata/prefork.c")
	w.policy(theRule)
	w.begin(false)
	for round := range 5 {
		// Without a gate the program is sure to run at first.
		if err := w.agent.request(t.Context(), func() { w.agent.closeGate() }); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(w.victim)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var pids []int
		for lines := bufio.NewScanner(out); len(pids) < 7 && lines.Scan(); {
			pid, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		for end := time.Now().Add(passInterval / 4); ; time.Sleep(20 * time.Millisecond) {
			var bare []int
			for _, pid := range pids {
				if inMode(t, pid) != pie.ModeEnforce {
					bare = append(bare, pid)
				}
			}
			if len(bare) == 0 && len(pids) == 7 {
				break
			}
			if time.Now().After(end) {
				t.Errorf("round %d: of %v these have no guard: %v", round, pids, bare)
				break
			}
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}
}
