package hosts

import (
	"bytes"
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

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// injected is a way to crash, and whose it is.
type injected struct {
	name    string
	how     func(*host)
	verdict string
	bare    bool // nothing of PIE is in the process
}

// tell has the program crash in one of its own ways.
func tell(how string) func(*host) { return func(h *host) { h.say(how) } }

var crashes = []injected{
	{name: "its own", how: tell("o"), verdict: "theirs"},
	{name: "its own, without a guard", how: tell("o"), verdict: "without", bare: true},
	{name: "its own, after a removal", how: func(h *host) { h.remove("HOST-1"); h.say("o") }, verdict: "theirs"},
	{name: "abort", how: tell("a"), verdict: "theirs"},
	{name: "an undefined instruction", how: tell("i"), verdict: "theirs"},
	{name: "a division by zero", how: tell("d"), verdict: "theirs"},
	{name: "no stack left", how: tell("r"), verdict: "theirs"},
	{name: "a call of nothing", how: tell("w"), verdict: "theirs"},
	{name: "a call of data", how: tell("x"), verdict: "theirs"},
	{name: "a return to nowhere", how: tell("u"), verdict: "theirs"},
	{name: "in libc", how: tell("l"), verdict: "theirs"},
	{name: "aborted by libc", how: tell("h"), verdict: "theirs"},
	{name: "a signal that was sent", how: tell("s"), verdict: "theirs"},
	{name: "in another thread", how: tell("t"), verdict: "theirs"},
	{name: "in the guarded function", how: tell("b"), verdict: "theirs"},
	{name: "in a moved instruction", how: tell("m"), verdict: "moved"},
	{name: "in a moved instruction, after the guard's fault", how: tell("f"), verdict: "moved"},
	{name: "breakpoints over the guard", how: spoil("\xcc"), verdict: "ours"},
	{name: "undefined instructions over the guard", how: spoil("\x0f\x0b"), verdict: "ours"},
	{name: "a read of nothing in the guard", how: spoil("\x8b\x04\x25\x08\x00\x00\x00\x90"), verdict: "ours"},
	{name: "a privileged instruction in the guard", how: spoil("\xf4"), verdict: "ours"},
	{name: "a jump to nowhere", how: misdirect(0x3fffff00), verdict: "ours"},
	{name: "a jump to its own middle", how: misdirect(-3), verdict: "ours"},
	{name: "a jump beside the guard", how: misdirect(0), verdict: "ours"},
	{name: "PIE's handler spoilt", how: spoilHandler, verdict: "ours"},
}

// Crashes, ours and theirs, and what an autopsy of their cores says: 1,000 of them in
// the long form, each of a process of its own.
func TestAutopsyOfInjectedCrashes(t *testing.T) {
	rounds := 1
	if os.Getenv("PIE_TEST_LONG") != "" {
		rounds = (1000 + len(crashes) - 1) / len(crashes)
	}
	path := build(t, "crasher", "gcc", "-pthread", "crasher.c")
	p := guard(t, "HOST-1", exeOf(path))
	right := map[string]int{}
	for range rounds {
		for _, c := range crashes {
			t.Run(c.name, func(t *testing.T) {
				if c.check(t, path, p); !t.Failed() {
					right[c.verdict]++
				}
			})
		}
	}
	t.Logf("of %d crashes right: %v", rounds*len(crashes), right)
}

func (c injected) check(t *testing.T, path string, p *pie.Prepatch) {
	h := start(t, nil, path)
	if !c.bare {
		h.insert(p)
		h.guarded()
	}
	core := h.coreOf(func() { c.how(h) })
	defer os.Remove(core) // a thousand of them take room
	report, err := pie.AutopsyCore(core)
	if err != nil {
		t.Fatal(err)
	}
	if report.Verdict != c.verdict || report.Pid != h.pid() || report.Name != "crasher" {
		t.Errorf("pid %d (%s): %s instead of %s: %+v", report.Pid, report.Name, report.Verdict, c.verdict, report.Threads)
	}
	if removed := c.name == "its own, after a removal"; !c.bare && !removed && (len(report.Prepatches) != 1 || report.Prepatches[0].ID != p.ID) {
		t.Errorf("in it were %+v", report.Prepatches)
	}
	if !c.bare && len(report.Events) == 0 {
		t.Error("no events")
	}
}

func (h *host) say(line string) {
	h.t.Helper()
	if _, err := h.in.Write([]byte(line)); err != nil {
		h.t.Fatal(err)
	}
}

// codeSize is how much code an arena has, right before its state.
const codeSize = 64 << 10

// spoil writes an instruction over the guard, again and again, as a mistake of PIE's
// could. The guard is the first of the arena's code.
func spoil(instruction string) func(*host) {
	return func(h *host) {
		h.t.Helper()
		h.poke(h.code(), strings.Repeat(instruction, guardRoom/len(instruction)))
	}
}

// guardRoom is within the guard's slot, in bytes.
const guardRoom = 192

// spoilHandler writes over PIE's signal handler, and has the guard read what it cannot.
func spoilHandler(h *host) {
	h.t.Helper()
	code := make([]byte, codeSize)
	if _, err := h.mem.ReadAt(code, h.code()); err != nil {
		h.t.Fatal(err)
	}
	at := bytes.Index(code, restorer)
	if at < 0 {
		h.t.Fatal("no handler: the guard does not read by way of a table")
	}
	h.poke(h.code()+int64(at)+jit.HandlerEntry, strings.Repeat("\xcc", 64))
	h.say("f")
}

// restorer is what a handler begins with: mov $15, %rax; syscall.
var restorer = []byte{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}

// misdirect changes where the jump at the site leads: off bytes from behind it; 0
// for a line beside the guard.
func misdirect(off int32) func(*host) {
	return func(h *host) {
		h.t.Helper()
		site := h.site()
		if off == 0 {
			off = int32(h.code() + codeSize - 64 - site - 5)
		}
		h.poke(site+1, string(binary.LittleEndian.AppendUint32(nil, uint32(off))))
	}
}

// code is where the arena's code begins, site where the jump to the guard stands.
func (h *host) code() int64 {
	h.t.Helper()
	a, ok := findArena(h.t, h.pid())
	if !ok {
		h.t.Fatal("no arena")
	}
	return a.state[0] - codeSize
}

func (h *host) site() int64 {
	h.t.Helper()
	all, err := pie.Status(h.context(), pie.Pids(h.pid()))
	if err != nil || len(all) != 1 {
		h.t.Fatalf("%+v, %v", all, err)
	}
	at, err := strconv.ParseInt(strings.TrimPrefix(all[0].Prepatches[0].Guards[0].Site, "0x"), 16, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return at
}

func (h *host) poke(at int64, text string) {
	h.t.Helper()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", h.pid()), os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer mem.Close()
	if _, err := mem.WriteAt([]byte(text), at); err != nil {
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
