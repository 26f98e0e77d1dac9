package tracee

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseUserState(t *testing.T) {
	for text, want := range map[string]userState{
		"running\n": {running: true, nr: -1},
		"0 0x4 0x7ffd1c 0x2000 0x8 0x0 0x0 0x7ffd00 0x7f1234\n": {nr: 0, args: [6]uint64{4, 0x7ffd1c, 0x2000, 8}, sp: 0x7ffd00, pc: 0x7f1234},
		"-1 0x7ffd00 0x401000\n":                                {nr: -1, sp: 0x7ffd00, pc: 0x401000},
	} {
		got, err := parseUserState([]byte(text))
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "walking", "0 1 2", "x 0x1 0x2", "0 0x4 0x7 0x2 0x8 0x0 0x0 0x7 0x7g", strings.Repeat("1 ", 100)} {
		if got, err := parseUserState([]byte(text)); err == nil && got.nr != 0 {
			t.Errorf("%q: %+v, no error", text, got)
		}
	}
}

// The order in which threads are tried for a remote call.
func TestCostOfAnInterruption(t *testing.T) {
	for _, c := range []struct {
		name string
		u    userState
		want int
	}{
		{"computing", userState{running: true, nr: -1}, costRunning},
		{"faulting a page in", userState{nr: -1}, costRestarts},
		{"waitpid", userState{nr: unix.SYS_WAIT4}, costRestarts},
		{"a mutex", userState{nr: unix.SYS_FUTEX}, costRestarts},
		{"a futex with a timeout", userState{nr: unix.SYS_FUTEX, args: [6]uint64{1: 128, 3: 0x7f00}}, costTimeout},
		{"a condition variable with a timeout", userState{nr: unix.SYS_FUTEX, args: [6]uint64{1: 0x189, 3: 0x7f00}}, costRestarts},
		{"poll for ever", userState{nr: unix.SYS_POLL, args: [6]uint64{2: 0xffffffff}}, costRestarts},
		{"poll for a second", userState{nr: unix.SYS_POLL, args: [6]uint64{2: 1000}}, costTimeout},
		{"sleep", userState{nr: unix.SYS_CLOCK_NANOSLEEP}, costTimeout},
		{"sleep until", userState{nr: unix.SYS_CLOCK_NANOSLEEP, args: [6]uint64{1: 1}}, costRestarts},
		{"read", userState{nr: unix.SYS_READ}, costSeldom},
		{"epoll_wait", userState{nr: unix.SYS_EPOLL_WAIT}, costEINTR},
	} {
		if got := c.u.cost(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func FuzzParseUserState(f *testing.F) {
	f.Add([]byte("running"))
	f.Add([]byte("0 0x4 0x7ffd1c 0x2000 0x8 0x0 0x0 0x7ffd00 0x7f1234"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseUserState(b) })
}

func TestMemoryLeft(t *testing.T) {
	v1 := map[string]string{
		"a/b/memory.limit_in_bytes": "9223372036854771712", "a/b/memory.usage_in_bytes": "100",
		"a/memory.limit_in_bytes": "5000", "a/memory.usage_in_bytes": "4000",
		"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "900000",
	}
	v2 := map[string]string{
		"a/b/memory.max": "max", "a/b/memory.current": "100",
		"a/memory.max": "5000", "a/memory.current": "6000",
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		g     cgroup
		want  uint64
	}{
		{"v1, limited by the parent", v1, cgroup{path: "/a/b", controllers: "memory"}, 1000},
		{"v1, unlimited", v1, cgroup{path: "/", controllers: "memory"}, NoLimit},
		{"v1, no memory controller", v1, cgroup{path: "/a/b", controllers: "cpu,cpuacct"}, NoLimit},
		{"v2, already beyond", v2, cgroup{path: "/a/b", unified: true}, 0},
		{"v2, a path that leads out", v2, cgroup{path: "/../../a", unified: true}, 0},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		c.g.mount = dir
		if got := c.g.memoryLeft(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestHeadroomOfAddressSpace(t *testing.T) {
	v := startVictim(t, "victim", "read", "1")
	p := v.open()
	defer p.Close()
	h, err := p.Headroom()
	if err != nil || h.AddressSpace != NoLimit || p.Frozen() || h.LocksFuture {
		t.Fatalf("%+v, %v", h, err)
	}
	limit := unix.Rlimit{Cur: 1 << 30, Max: 1 << 30}
	if err := unix.Prlimit(v.pid(), unix.RLIMIT_AS, &limit, nil); err != nil {
		t.Fatal(err)
	}
	if h, err = p.Headroom(); err != nil || h.AddressSpace > 1<<30 || h.AddressSpace < 1<<28 {
		t.Errorf("below a limit of 1 GiB: %v, %v", h, err)
	}
}

func TestFamily(t *testing.T) {
	v := startVictim(t, "victim", "vfork", "1")
	p := v.open()
	defer p.Close()
	waitFor(t, "a vfork child", func() bool {
		children, err1 := p.Children()
		sharing, err2 := p.SharingMM()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		return len(sharing) == 1 && slices.Contains(children, sharing[0])
	})
	plain := exec.Command("sleep", "1")
	if err := plain.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Wait() }()
	if sameMM(v.pid(), plain.Process.Pid) {
		t.Error("two unrelated processes share memory")
	}
	// A stop asks nobody again who was a stranger before it, and everybody else.
	strangers := p.strangers(make([]byte, direntsSize), nil)
	if !slices.IsSorted(strangers) || !slices.Contains(strangers, plain.Process.Pid) || slices.Contains(strangers, v.pid()) {
		t.Errorf("strangers of %d: %v", v.pid(), strangers)
	}
	waitFor(t, "a vfork child that is found beside the strangers", func() bool {
		sharing, errno := p.sharingMM(make([]byte, direntsSize), nil, strangers)
		return errno == 0 && len(sharing) == 1 && !slices.Contains(strangers, sharing[0])
	})
}

// A watchdog must not outlive its tracer, nor be waited for by it.
func TestWatchdogEndsWithItsTracer(t *testing.T) {
	tr, err := NewTracer(Options{})
	if err != nil {
		t.Fatal(err)
	}
	pid := tr.watchdog.process.Pid
	tr.Close()
	waitFor(t, "the watchdog to end", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
}

// A watchdog that is killed is replaced before anything is stopped.
func TestWatchdogIsReplaced(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "victim", "read", "1")
	p := v.open()
	defer p.Close()
	both(t, tr, v, 1)
	if err := tr.watchdog.process.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	both(t, tr, v, 1)
	v.mustProgress()
}

// A process that starts the very program that it runs anew is another one: what was found
// in its memory is not there any more.
func TestSameProgramAnew(t *testing.T) {
	v := startVictim(t, "situation", "exec")
	p := v.open()
	defer p.Close()
	if _, err := p.ReadAt(make([]byte, 8), v.answer); err != nil && !errors.Is(err, ErrGone) && !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); p.Check() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it looks like the same process after 10 s of programs of 20 ms each")
		}
	}
	if err := p.Check(); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want ErrGone", err)
	}
	if err := attachTo(newTracer(t), p, 0, mapUnmap); !errors.Is(err, ErrGone) {
		t.Errorf("attaching: %v, want ErrGone", err)
	}
}
