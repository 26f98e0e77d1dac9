package hosts

import (
	"bytes"
	"encoding/binary"
	"flag"
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
	before  string // what the program is told before the guard goes in
	guard   string // how the guard is: "copies" (reads by system calls), "calls" (a function of the program), "none"
	lives   bool   // the program waits in its handler, and is looked at there
	child   bool   // it is a child of the program that crashes
	after   func(*host)
}

// tell has the program crash in one of its own ways.
func tell(how string) func(*host) { return func(h *host) { h.say(how) } }

var crashes = []injected{
	{name: "its own", how: tell("o"), verdict: "theirs"},
	{name: "its own, without a guard", how: tell("o"), verdict: "without", guard: "none"},
	{name: "its own, after a removal", how: func(h *host) { h.remove("HOST-1"); h.say("o") }, verdict: "theirs"},
	{name: "its own, by what a rejected call returned", how: tell("c"), verdict: "theirs"},
	{name: "abort", how: tell("a"), verdict: "theirs"},
	{name: "an undefined instruction", how: tell("i"), verdict: "theirs"},
	{name: "a division by zero", how: tell("d"), verdict: "theirs"},
	{name: "no stack left", how: tell("r"), verdict: "theirs"},
	{name: "no stack left for the guard", how: tell("e"), verdict: "theirs", guard: "copies"},
	{name: "stack smashed, and seen", how: tell("k"), verdict: "theirs"},
	{name: "a call of nothing", how: tell("w"), verdict: "theirs"},
	{name: "a call of data", how: tell("x"), verdict: "theirs"},
	{name: "a return to nowhere", how: tell("u"), verdict: "theirs"},
	{name: "in libc", how: tell("l"), verdict: "theirs"},
	{name: "aborted by libc", how: tell("h"), verdict: "theirs"},
	{name: "a signal that was sent", how: tell("s"), verdict: "theirs"},
	{name: "a signal that was sent into a guard", how: spin(syscall.SIGABRT), verdict: "near"},
	{name: "a system call that is forbidden", how: tell("y"), verdict: "theirs"},
	{name: "a guard's system call that is forbidden", how: tell("Y"), verdict: "ours", guard: "copies"},
	{name: "in another thread", how: tell("t"), verdict: "theirs"},
	{name: "in a child", how: tell("p"), verdict: "theirs", child: true},
	{name: "in a child, breakpoints over its guard", how: spoilChild, verdict: "ours", child: true},
	{name: "the executable is gone", how: tell("o"), verdict: "theirs", after: removeExe},
	{name: "the executable is gone, breakpoints over the guard", how: spoil("\xcc"), verdict: "ours", after: removeExe},
	{name: "another executable in its place", how: tell("m"), verdict: "moved", after: replaceExe},
	{name: "in the guarded function", how: tell("b"), verdict: "theirs"},
	{name: "in a moved instruction", how: tell("m"), verdict: "moved"},
	{name: "in a moved instruction, after the guard's fault", how: tell("f"), verdict: "moved"},
	{name: "in what a guard calls", how: tell("v"), verdict: "near", guard: "calls"},
	{name: "breakpoints over the guard", how: spoil("\xcc"), verdict: "ours"},
	{name: "undefined instructions over the guard", how: spoil("\x0f\x0b"), verdict: "ours"},
	{name: "a read of nothing in the guard", how: spoil(readNothing), verdict: "ours"},
	{name: "a privileged instruction in the guard", how: spoil("\xf4"), verdict: "ours"},
	{name: "a jump to nowhere", how: misdirect(0x3fffff00), verdict: "ours"},
	{name: "a jump to its own middle", how: misdirect(-3), verdict: "ours"},
	{name: "a jump beside the guard", how: misdirect(0), verdict: "ours"},
	{name: "PIE's handler spoilt", how: spoilHandler, verdict: "ours"},

	{name: "its own, with a handler that aborts", before: "A", how: tell("o"), verdict: "theirs"},
	{name: "its own, with a handler that has it again", before: "R", how: tell("o"), verdict: "theirs"},
	{name: "an undefined instruction, with a handler that aborts", before: "A", how: tell("i"), verdict: "theirs"},
	{name: "moved, with a handler that aborts", before: "A", how: tell("m"), verdict: "moved"},
	{name: "moved, after the guard's fault, with a handler that has it again", before: "R", how: tell("f"), verdict: "moved"},
	{name: "breakpoints, with a handler that aborts", before: "A", how: spoil("\xcc"), verdict: "ours"},
	{name: "breakpoints, with a handler that has it again", before: "R", how: spoil("\xcc"), verdict: "ours"},
	{name: "a read of nothing, with a handler that aborts", before: "A", how: spoil(readNothing), verdict: "ours"},
	{name: "a jump to nowhere, with a handler that aborts", before: "A", how: misdirect(0x3fffff00), verdict: "ours"},
	{name: "the guard's fault, with a handler in the place of PIE's", how: tell("Af"), verdict: "ours"},
	{name: "the guard's fault, with none in the place of PIE's", how: tell("Df"), verdict: "ours"},
	{name: "its own, and waits", before: "W", how: tell("o"), verdict: "theirs", lives: true},
	{name: "moved, and waits", before: "W", how: tell("m"), verdict: "moved", lives: true},
	{name: "breakpoints, and waits", before: "W", how: spoil("\xcc"), verdict: "ours", lives: true},
}

// readNothing is mov 8, %eax, and a nop.
const readNothing = "\x8b\x04\x25\x08\x00\x00\x00\x90"

// A long run may be made of several:
//
//	go test -run Autopsy ./test/hosts -crashes.rounds 10
var crashRounds = flag.Int("crashes.rounds", 1, "how often TestAutopsyOfInjectedCrashes injects each crash")

// Crashes, ours and theirs, and what an autopsy of their cores says: 1,000 of them in
// the long form, each of a process of its own.
func TestAutopsyOfInjectedCrashes(t *testing.T) {
	rounds := *crashRounds
	if os.Getenv("PIE_TEST_LONG") != "" {
		rounds = (1000 + len(crashes) - 1) / len(crashes)
	}
	right := map[string]int{}
	for range rounds {
		for _, c := range crashes {
			t.Run(c.name, func(t *testing.T) {
				if c.check(t); !t.Failed() {
					right[c.verdict]++
				}
			})
		}
	}
	t.Logf("of %d crashes of %d kinds right: %v", rounds*len(crashes), len(crashes), right)
}

func (c injected) check(t *testing.T) {
	h := start(t, nil, c.program(t))
	if c.before != "" {
		h.say(c.before)
		h.calls(perHalf)
	}
	if c.guard != "none" {
		h.insertWith(c.prepatch(t), pie.Options{CopyReads: c.guard == "copies"})
		h.guarded()
	}
	pid := h.pid()
	var report *pie.Autopsy
	var err error
	if c.lives {
		c.how(h)
		h.waitLine("waits")
		report, err = pie.AutopsyProcess(h.context(), pid)
	} else {
		var core string
		core, pid = c.core(h)
		defer os.Remove(core) // a thousand of them take room
		if c.after != nil {
			c.after(h)
		}
		report, err = pie.AutopsyCore(core)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.judge(t, report, pid)
}

func (c injected) judge(t *testing.T, report *pie.Autopsy, pid int) {
	if report.Verdict != c.verdict || report.Pid != pid || report.Name != "crasher" {
		t.Errorf("pid %d (%s): %s instead of %s: %+v", report.Pid, report.Name, report.Verdict, c.verdict, report.Threads)
	}
	if c.guard == "none" {
		return
	}
	if removed := c.name == "its own, after a removal"; !removed && (len(report.Prepatches) != 1 || report.Prepatches[0].ID != "HOST-1") {
		t.Errorf("in it were %+v", report.Prepatches)
	}
	if len(report.Events) == 0 {
		t.Error("no events")
	}
}

// program is what crashes; what becomes of its file is to be nobody else's concern.
func (c injected) program(t *testing.T) string {
	path := build(t, "crasher", "gcc", "-pthread", "crasher.c")
	if c.after == nil {
		return path
	}
	own := filepath.Join(t.TempDir(), "crasher")
	if text, err := exec.Command("cp", path, own).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return own
}

func (c injected) prepatch(t *testing.T) *pie.Prepatch {
	if c.guard != "calls" {
		return guard(t, "HOST-1", "exe=crasher")
	}
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id  HOST-1
//pie:cap call

//pie:guard exe=crasher func=guarded onfault=pass onfuel=pass
func Guard(c *libpie.Call, n int32, text libpie.Addr) libpie.Verdict {
	if c.Invoke("fragile", libpie.Word(n)); n < 0 || c.Bytes(text, 1).At(0) == '!' {
		return libpie.Reject(int32(-7777))
	}
	return libpie.Pass()
}
`)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// core has the crash happen, and returns the core and whose it is.
func (c injected) core(h *host) (path string, pid int) {
	h.t.Helper()
	if !c.child {
		return h.coreOf(func() { c.how(h) }), h.pid()
	}
	h.dumpsCore()
	c.how(h)
	if pid = h.child; pid == 0 {
		pid = h.waitLine("child")
	}
	h.waitLine("ended")
	return h.kernelsCore(pid), pid
}

// waitLine waits for a line that begins with a word, and returns the number behind it.
func (h *host) waitLine(word string) (n int) {
	h.t.Helper()
	for deadline := time.After(patient); ; {
		select {
		case line, ok := <-h.lines:
			if first, rest, _ := strings.Cut(line, " "); first == word {
				n, _ = strconv.Atoi(rest)
				return n
			}
			if !ok {
				h.t.Fatalf("%v has ended, and has not said %q", h.cmd.Args, word)
			}
		case <-deadline:
			h.t.Fatalf("%v does not say %q", h.cmd.Args, word)
		}
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
// could. The guard is the first of the arena's code. What the kernel compares when it takes
// a thread out of a restartable sequence (rseq(2)) is left, or it would end the program,
// without a word to its handlers.
func spoil(instruction string) func(*host) {
	return func(h *host) {
		h.t.Helper()
		code := make([]byte, guardRoom)
		if _, err := h.mem.ReadAt(code, h.code()); err != nil {
			h.t.Fatal(err)
		}
		signature := binary.LittleEndian.AppendUint32(nil, jit.RseqSignature)
		room := max(bytes.Index(code, signature), 0)
		if room == 0 {
			room = guardRoom
		}
		h.poke(h.code(), strings.Repeat(instruction, room/len(instruction)))
	}
}

// spoilChild does that in a child, and lets it call.
func spoilChild(h *host) {
	h.t.Helper()
	h.say("q")
	h.child = h.waitLine("child")
	h.pokeIn(h.child, h.code(), strings.Repeat("\xcc", guardRoom))
	for begin := time.Now(); time.Since(begin) < patient; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.child))
		if err == nil && strings.Contains(string(text), ") S ") { // in pause(2)
			break
		}
	}
	if err := unix.Kill(h.child, unix.SIGUSR1); err != nil {
		h.t.Fatal(err)
	}
}

// spin keeps the program in its guard, and sends it a signal there.
func spin(sig syscall.Signal) func(*host) {
	return func(h *host) {
		h.t.Helper()
		h.poke(h.code(), "\xeb\xfe") // the guard's first instruction is a jump to itself
		for begin := time.Now(); time.Since(begin) < patient; {
			if r, err := pie.AutopsyProcess(h.context(), h.pid()); err == nil && r.Verdict == "ours" {
				break
			}
		}
		if err := unix.Kill(h.pid(), sig); err != nil {
			h.t.Fatal(err)
		}
	}
}

// removeExe and replaceExe are what an upgrade does before anybody looks at the core.
func removeExe(h *host) {
	h.t.Helper()
	if err := os.Remove(h.cmd.Path); err != nil {
		h.t.Fatal(err)
	}
}

func replaceExe(h *host) {
	h.t.Helper()
	removeExe(h)
	other := build(h.t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	if err := os.Link(other, h.cmd.Path); err != nil {
		h.t.Fatal(err)
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
	h.pokeIn(h.pid(), at, text)
}

func (h *host) pokeIn(pid int, at int64, text string) {
	h.t.Helper()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
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
	if !h.dumpsCore() {
		return h.coreByGDB(filepath.Join(h.t.TempDir(), "core"), crash)
	}
	crash()
	err := h.cmd.Wait()
	exit, ok := err.(*exec.ExitError)
	if !ok || !exit.Sys().(syscall.WaitStatus).CoreDump() {
		h.t.Fatalf("no core: %v", err)
	}
	return h.kernelsCore(h.pid())
}

// dumpsCore has the kernel write a core of the program, and of its children, in its
// folder, if the machine is so set up.
func (h *host) dumpsCore() bool {
	h.t.Helper()
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		h.t.Fatal(err)
	}
	if strings.TrimSpace(string(pattern)) != "core" {
		return false
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(h.pid(), unix.RLIMIT_CORE, &unlimited, nil); err != nil {
		h.t.Fatal(err)
	}
	return true
}

// kernelsCore takes what the kernel has written of a process.
func (h *host) kernelsCore(pid int) string {
	h.t.Helper()
	core := filepath.Join(h.t.TempDir(), "core")
	usesPid, _ := os.ReadFile("/proc/sys/kernel/core_uses_pid")
	name := filepath.Join(h.cmd.Dir, "core")
	if strings.TrimSpace(string(usesPid)) == "1" {
		name += "." + strconv.Itoa(pid)
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
