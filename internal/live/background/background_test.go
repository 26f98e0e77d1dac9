package background_test

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/background"
)

// asChild runs a test in a process of its own: a policy is all of a process's.
const asChild = "BACKGROUND_TEST_CHILD"

func inChild(t *testing.T, as *syscall.Credential, f func()) {
	if os.Getenv(asChild) == t.Name() {
		f()
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^"+t.Name()+"$")
	self, err := os.Open(exe) // somebody else may not read the folder it lies in
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = []string{asChild + "=" + t.Name()}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// threads counts this process's by their policy.
func threads(t *testing.T) map[uintptr]int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	n := map[uintptr]int{}
	for _, e := range list {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if p, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0); errno == 0 {
			n[p]++
		}
	}
	return n
}

func TestThereAndBack(t *testing.T) {
	inChild(t, nil, func() {
		const limit = 300 * time.Millisecond
		begin := time.Now()
		if !background.Enter(limit) {
			t.Fatal("root may not go into the background")
		}
		if n := threads(t); n[unix.SCHED_NORMAL] != 1 || n[unix.SCHED_IDLE] == 0 {
			t.Errorf("in the background: %v threads by policy; only the one that watches the time is to be at the ordinary one", n)
		}
		back := background.Foreground()
		if n := threads(t); n[unix.SCHED_IDLE] != 0 {
			t.Errorf("while somebody is stopped: %v threads by policy", n)
		}
		back()
		if n := threads(t); time.Since(begin) < limit && n[unix.SCHED_IDLE] == 0 {
			t.Errorf("after that: %v threads by policy", n)
		}
		for end := time.Now().Add(20 * time.Second); threads(t)[unix.SCHED_IDLE] != 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the background was not left when its time was over")
			}
		}
		if took := time.Since(begin); took < limit {
			t.Errorf("the background was left after %v", took)
		}
	})
}

// TestLeftOverATime: who has left the background when its time is over, and goes
// back then, is taken out all the same.
func TestLeftOverATime(t *testing.T) {
	inChild(t, nil, func() {
		background.Enter(time.Millisecond)
		back := background.Foreground()
		time.Sleep(100 * time.Millisecond)
		back()
		for end := time.Now().Add(20 * time.Second); threads(t)[unix.SCHED_IDLE] != 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("still in the background")
			}
		}
	})
}

func TestNoWayBack(t *testing.T) {
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	inChild(t, nobody, func() {
		if background.Enter(time.Second) {
			t.Error("entered without the right to come back")
		}
		// The thread that has tried ends; the runtime parks the first one instead.
		for end := time.Now().Add(20 * time.Second); threads(t)[unix.SCHED_IDLE] > 1; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%v threads by policy", threads(t))
			}
		}
		if n := threads(t); n[unix.SCHED_NORMAL] == 0 {
			t.Errorf("%v threads by policy", n)
		}
	})
}

// TestSessions: while one of several still needs the foreground, nobody goes back, and
// nobody enters the background.
func TestSessions(t *testing.T) {
	inChild(t, nil, func() {
		if !background.Enter(10 * time.Second) {
			t.Fatal("root may not go into the background")
		}
		one, two := background.Foreground(), background.Foreground()
		one()
		one() // counts once
		if n := threads(t); n[unix.SCHED_IDLE] != 0 {
			t.Errorf("one session of two has ended: %v threads by policy", n)
		}
		two()
		if n := threads(t); n[unix.SCHED_IDLE] == 0 {
			t.Errorf("both have ended: %v threads by policy", n)
		}
		end := background.Foreground()
		if background.Enter(time.Second) {
			t.Error("entered while the foreground was needed")
		}
		end()
	})
}

// A program that another goroutine starts while somebody is stopped is an ordinary one.
func TestProgramsAreOrdinary(t *testing.T) {
	inChild(t, nil, func() {
		for range 20 {
			back := background.Foreground()
			cmd := exec.Command("/bin/sleep", "60")
			started := make(chan error)
			go func() { started <- cmd.Start() }()
			time.Sleep(5 * time.Millisecond)
			back()
			if err := <-started; err != nil {
				t.Fatal(err)
			}
			raw, err := unix.Getpriority(unix.PRIO_PROCESS, cmd.Process.Pid) // 20 − the nice value
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if ours, _ := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || raw != ours {
				t.Fatalf("a program has the nice value %d, who started it %d: %v", 20-raw, 20-ours, err)
			}
		}
	})
}
