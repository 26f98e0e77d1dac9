package pie

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Whatever a lower package refuses has a stable code, names the process and
// says what to do.
func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code Code
		says string
	}{
		{tracee.ErrGone, CodeNoProcess, "no such process"},
		{proc.ErrGone, CodeNoProcess, "no such process"},
		{tracee.ErrZombie, CodeNoProcess, "no such process"},
		{tracee.ErrSelf, CodeSelf, "pie itself"},
		{tracee.ErrKernelThread, CodeKernelThread, "kernel thread"},
		{tracee.ErrNotAMD64, CodeMachine, "x86-64"},
		{&binfile.UnsupportedError{Class: elf.ELFCLASS32}, CodeCompat, "32-bit"},
		{&binfile.UnsupportedError{Class: elf.ELFCLASS64, Machine: elf.EM_AARCH64}, CodeMachine, "x86-64"},
		{tracee.ErrFrozen, CodeFrozen, "frozen"},
		{tracee.ErrBusy, CodeBusy, "does not stop"},
		{tracee.ErrNoRemoteSyscall, CodeNoSyscall, "without a risk"},
		{&tracee.PermissionError{PID: 7, Op: "seizing it", Policy: tracee.PolicyYama, Advice: "run pie as root", Err: unix.EPERM}, CodePermission, "Yama"},
		{&tracee.TracedError{PID: 7, By: 9, Name: "gdb"}, CodeTraced, "by pid 9 (gdb)"},
		{&locate.NotFound{Func: "strdub", Image: "libc.so.6", Near: []string{"strdup"}}, CodeNotFound, "no function strdub"},
		{&locate.NotFound{Func: "inflate", Image: "python3", Libraries: []string{"libz.so.1"}}, CodeNotFound, "no function inflate"},
		{&locate.Ambiguous{Func: "f", Candidates: []locate.Function{{Name: "a.c:f"}, {Name: "b.c:f"}}}, CodeAmbiguous, "b.c:f"},
		{&locate.Indirect{Func: "memcpy", Image: "libc.so.6", Why: "unknown"}, CodeIndirect, "IFUNC"},
		{&locate.NoLibrary{SOName: "libz.so.1", Mapped: []string{"libc.so.6"}}, CodeNoImage, "libz.so.1"},
		{&debuginfo.Mismatch{Mirror: "Request", Field: "Len", Msg: "is at 8, not 4"}, CodeMirror, "Request"},
		{locate.ErrAssembly, CodeAssembly, "assembly"},
		{locate.ErrTooManyNames, CodeAmbiguous, "mangled"},
		{locate.ErrNoSize, CodeNoSize, "end of the function"},
		{locate.ErrNotCode, CodeNotCode, "executable segment"},
		{&locate.NoSymbol{Name: "limit", Why: "not in libz.so.1"}, CodeNoSymbol, "no variable limit"},
		{&locate.NotCallable{Func: "check", Why: "liba.so, which has it, may be unloaded"}, CodeNoSymbol, "check cannot be called: liba.so"},
		{locate.ErrThreadLocal, CodeNoSymbol, "thread-local"},
		{locate.ErrNoErrno, CodeNoErrno, "errno"},
		{locate.ErrNoText, CodeNoText, "not mapped from its file"},
		{binfile.ErrGoFormat, CodeUnsupported, "function table"},
		{binfile.ErrNotELF, CodeDamaged, "not an ELF file"},
		{&binfile.FormatError{What: "program header", At: 64, Msg: "ends behind the file"}, CodeDamaged, "program header at 0x40"},
		{&proc.UntrustedFS{Type: "fuse.sshfs"}, CodeUntrusted, "fuse.sshfs"},
		{proc.ErrSlowFile, CodeUntrusted, "does not answer"},
		{proc.ErrSlowMemory, CodeUntrusted, "does not answer"},
		{proc.ErrReplaced, CodeReplaced, "no longer at its path"},
		{proc.ErrNotRegular, CodeReplaced, "regular file"},
		{&arena.CorruptError{Base: 0x1000, Msg: "bad count"}, CodeArena, "bad count"},
		{locate.ErrOtherExe, CodeNoImage, "another executable"},
		{&plan.Refusal{Code: plan.SiteBranch, Msg: "a branch enters"}, "site_branch", "a branch enters"},
		{&insert.SiteError{Code: insert.SiteUprobe, Pid: 7}, "site_uprobe", "breakpoint"},
		{&insert.HeadroomError{Pid: 7, Limit: "RLIMIT_AS", Have: 1 << 10, Need: 4 << 10}, CodeHeadroom, "RLIMIT_AS leaves 1 KiB"},
		{&insert.MappingsError{Pid: 7, Left: 3}, CodeHeadroom, "leaves 3 mappings"},
		{insert.ErrOtherVersion, CodeOther, "another version"},
		{insert.ErrPartial, CodePartly, "partly in"},
		{insert.ErrNotIn, CodeNotIn, "not in"},
		{insert.ErrBusySite, CodeBusy, "stays inside"},
		{insert.ErrStale, CodeStale, "changed"},
		{&jit.PlaceError{Unit: "Guard", Err: jit.ErrArgument}, CodePlace, "argument word"},
		{arena.ErrNoGap, CodeHeadroom, "2 GiB"},
		{arena.ErrFull, CodeHeadroom, "full"},
	} {
		err := explain(fmt.Errorf("lower: %w", tt.err), "pid 7 (httpd)")
		var r *Refusal
		if !errors.As(err, &r) {
			t.Errorf("%v is a failure, want a refusal", tt.err)
			continue
		}
		if r.Code != tt.code || !strings.Contains(r.Msg+strings.Join(r.Details, " "), tt.says) || !strings.Contains(r.Msg, "pid 7") || r.Instead == "" {
			t.Errorf("%v: got %q [%s], instead %q; want [%s] with %q", tt.err, r.Msg, r.Code, r.Instead, tt.code, tt.says)
		}
		if !errors.Is(err, tt.err) && !errors.As(err, &r) {
			t.Errorf("%v is lost", tt.err)
		}
	}
}

// A refusal names the process once, whatever each package put in front.
func TestExplainNamesTheProcessOnce(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("pid 7: preparing the arena: pid 7: its seccomp filter forbids rt_sigreturn: %w", tracee.ErrNoRemoteSyscall),
			"pid 7 (httpd): no system call can be run in it without a risk: preparing the arena: its seccomp filter forbids rt_sigreturn"},
		{fmt.Errorf("pid 7: %w than redis-server: /usr/sbin/httpd", locate.ErrOtherExe),
			"pid 7 (httpd): " + locate.ErrOtherExe.Error() + " than redis-server: /usr/sbin/httpd"},
		{fmt.Errorf("pid 7: opening /proc/7/maps: %w", os.ErrPermission), "pid 7 (httpd): opening /proc/7/maps: permission denied"},
	} {
		if got := explain(tt.err, "pid 7 (httpd)").Error(); !strings.Contains(got, tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestExplainKeepsFailures(t *testing.T) {
	cause := errors.New("disk on fire")
	err := explain(cause, "pid 7 (httpd)")
	if !errors.Is(err, cause) || ReasonOf(err) != "" || !strings.Contains(err.Error(), "pid 7") {
		t.Errorf("got %v", err)
	}
	if explain(nil, "x") != nil {
		t.Error("no error became one")
	}
}

// docs/pie.md lists every reason code.
func TestCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("docs/pie.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"refusal.go", "internal/live/plan/refusal.go", "internal/live/insert/errors.go"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:Code|SiteCode) += "(\w+)"`).FindAllStringSubmatch(string(src), -1) {
			if !strings.Contains(string(doc), "| `"+m[1]+"` |") {
				t.Errorf("docs/pie.md does not explain %s (%s)", m[1], file)
			}
		}
	}
}

// Whatever may be the id of a prepatch fits into a process, with that of its recorders.
func TestIDsFit(t *testing.T) {
	if source.MaxID > arena.MaxID {
		t.Errorf("an id may have %d bytes, and a process has room for %d", source.MaxID, arena.MaxID)
	}
	long := strings.Repeat("a", source.MaxID-1)
	one, two := RecordID(long+"1"), RecordID(long+"2")
	if len(one) > arena.MaxID || one == two || !strings.HasPrefix(one, recordPrefix) {
		t.Errorf("recorders of two prepatches: %s and %s, at most %d bytes", one, two, arena.MaxID)
	}
	if got := RecordID("CVE-2024-31228"); got != "record-CVE-2024-31228" {
		t.Errorf("got %s", got)
	}
}

func TestParentsFirst(t *testing.T) {
	parents := map[int]int{30: 10, 20: 30, 10: 1, 5: 20, 7: 99}
	got := parentsFirst([]int{5, 7, 10, 20, 30}, func(pid int) int { return parents[pid] })
	at := map[int]int{}
	for i, pid := range got {
		at[pid] = i
	}
	if len(got) != 5 || !(at[10] < at[30] && at[30] < at[20] && at[20] < at[5]) {
		t.Errorf("order %v", got)
	}
	loop := map[int]int{1: 2, 2: 1}
	if got := parentsFirst([]int{1, 2}, func(pid int) int { return loop[pid] }); len(got) != 2 {
		t.Errorf("a loop of parents: %v", got)
	}
	loop = map[int]int{1: 3, 2: 4, 3: 4, 4: 3}
	if got := parentsFirst([]int{1, 2}, func(pid int) int { return loop[pid] }); len(got) != 2 {
		t.Errorf("a loop of parents that are not asked about: %v", got)
	}
}

// A selection is asked time and again, and says the same each time.
func TestSelectionIsLeftAlone(t *testing.T) {
	sel := Pids(os.Getppid(), 1, os.Getppid())
	for range 2 {
		pids, err := selected(t.Context(), sel)
		if err != nil || len(pids) != 2 || pids[0] != 1 || pids[1] != os.Getppid() {
			t.Errorf("%v, %v; want 1 and %d", pids, err, os.Getppid())
		}
	}
}

// The file of an enemy may be sparse, and have a segment of any size.
func TestHugeSegmentIsNotRead(t *testing.T) {
	file := &binfile.File{Segments: []binfile.Segment{{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_X, Vaddr: 0x1000, Filesz: 1 << 40, Memsz: 1 << 40}}}
	k := newKnown()
	_, _, err := k.segment(locate.Function{Vaddr: 0x2000, Image: &locate.Image{Path: "/srv/huge", File: file}})
	if ReasonOf(err) != CodeUnsupported {
		t.Errorf("got %v", err)
	}
}

// The name of a process that a refusal begins with is not said twice; inside a sentence
// it stays.
func TestUnnamed(t *testing.T) {
	for text, want := range map[string]string{
		"pid 7: it ended":                          "it ended",
		"stopping: pid 7: it ended":                "stopping: it ended",
		"seizing thread 8 of pid 7: not permitted": "seizing thread 8 of pid 7: not permitted",
	} {
		if got := unnamed(errors.New(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
