package hosts

import (
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

	"github.com/patch-integration-engine/pie"
)

// Crashes, ours and theirs, and what an autopsy of their cores says.
func TestAutopsyOfInjectedCrashes(t *testing.T) {
	rounds := 1
	if os.Getenv("PIE_TEST_LONG") != "" {
		rounds = 200
	}
	path := build(t, "crasher", "gcc", "crasher.c")
	p := guard(t, "HOST-1", exeOf(path))
	for range rounds {
		for _, c := range []struct {
			name    string
			guarded bool
			crash   func(*host)
			verdict string
		}{
			{"its own", true, func(h *host) { h.say("o\n") }, "theirs"},
			{"its own, without a guard", false, func(h *host) { h.say("o\n") }, "without"},
			{"its own, in a moved instruction", true, func(h *host) { h.say("m\n") }, "moved"},
			{"ours", true, spoilCode, "ours"},
			{"its own, after a removal", true, func(h *host) { h.remove(p.ID); h.say("o\n") }, "theirs"},
		} {
			t.Run(c.name, func(t *testing.T) {
				h := start(t, nil, path)
				if c.guarded {
					h.insert(p)
					h.guarded()
				}
				report, err := pie.AutopsyCore(h.coreOf(func() { c.crash(h) }))
				if err != nil {
					t.Fatal(err)
				}
				if report.Verdict != c.verdict || report.Pid != h.pid() || report.Name != "crasher" {
					t.Errorf("pid %d (%s): %s instead of %s: %+v", report.Pid, report.Name, report.Verdict, c.verdict, report.Threads)
				}
				if wants := c.guarded && c.name != "its own, after a removal"; wants && (len(report.Prepatches) != 1 || report.Prepatches[0].ID != p.ID) {
					t.Errorf("in it were %+v", report.Prepatches)
				}
				if c.guarded && len(report.Events) == 0 {
					t.Error("no events")
				}
			})
		}
	}
}

func (h *host) say(line string) {
	h.t.Helper()
	if _, err := h.in.Write([]byte(line)); err != nil {
		h.t.Fatal(err)
	}
}

// spoilCode puts breakpoints over the guard, as a mistake of PIE's would.
func spoilCode(h *host) {
	h.t.Helper()
	a, ok := findArena(h.t, h.pid())
	if !ok {
		h.t.Fatal("no arena")
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", h.pid()), os.O_RDWR, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer mem.Close()
	const codeSize = 64 << 10
	if _, err := mem.WriteAt([]byte(strings.Repeat("\xcc", 1024)), a.state[0]-codeSize); err != nil {
		h.t.Fatal(err)
	}
}

// coreOf lets crash happen and returns the core file: the kernel's, or, where
// the machine pipes cores elsewhere, gdb's.
func (h *host) coreOf(crash func()) string {
	h.t.Helper()
	core := filepath.Join(h.t.TempDir(), "core")
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		h.t.Fatal(err)
	}
	if s := strings.TrimSpace(string(pattern)); s != "core" {
		return h.coreByGDB(core, crash)
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(h.pid(), unix.RLIMIT_CORE, &unlimited, nil); err != nil {
		h.t.Fatal(err)
	}
	crash()
	err = h.cmd.Wait()
	exit, ok := err.(*exec.ExitError)
	if !ok || !exit.Sys().(syscall.WaitStatus).CoreDump() {
		h.t.Fatalf("no core: %v", err)
	}
	usesPid, _ := os.ReadFile("/proc/sys/kernel/core_uses_pid")
	name := filepath.Join(h.cmd.Dir, "core")
	if strings.TrimSpace(string(usesPid)) == "1" {
		name += "." + strconv.Itoa(h.pid())
	}
	if err := os.Rename(name, core); err != nil {
		h.t.Fatal(err)
	}
	return core
}

func (h *host) coreByGDB(core string, crash func()) string {
	h.t.Helper()
	gdb := exec.Command("gdb", "-q", "-batch", "-p", strconv.Itoa(h.pid()), "-ex", "continue", "-ex", "generate-core-file "+core)
	if err := gdb.Start(); err != nil {
		h.t.Fatalf("%v: scripts/setup installs gdb", err)
	}
	h.waitStatus(fmt.Sprintf("TracerPid:\t%d", gdb.Process.Pid))
	h.calls(perHalf)
	time.Sleep(300 * time.Millisecond) // until gdb has let it go on for good
	crash()
	if err := gdb.Wait(); err != nil {
		h.t.Fatal(err)
	}
	return core
}
