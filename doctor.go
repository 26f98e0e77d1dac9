package pie

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Verdicts of a Finding.
const (
	FindingOK      = "ok"
	FindingNote    = "note"    // works, with a cost that is said
	FindingBlocked = "blocked" // stands in the way
)

// Finding is one thing Doctor looked at.
type Finding struct {
	What    string `json:"what"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
	Instead string `json:"instead,omitempty"`
	Code    Code   `json:"code,omitempty"`
}

// Diagnosis is what stands in the way of guarding one process.
type Diagnosis struct {
	Pid      int       `json:"pid"`
	Exe      string    `json:"exe"`
	Findings []Finding `json:"findings"`
}

// CanGuard reports whether nothing is in the way.
func (d *Diagnosis) CanGuard() bool {
	for _, f := range d.Findings {
		if f.Verdict == FindingBlocked {
			return false
		}
	}
	return true
}

func (d *Diagnosis) add(what, verdict, format string, args ...any) {
	d.Findings = append(d.Findings, Finding{What: what, Verdict: verdict, Detail: fmt.Sprintf(format, args...)})
}

func (d *Diagnosis) block(what string, r *Refusal) {
	d.Findings = append(d.Findings, Finding{What: what, Verdict: FindingBlocked, Detail: r.Msg, Instead: r.Instead, Code: r.Code})
}

// Doctor looks at a process without stopping it. Pid 0 looks at the machine
// alone. An error means that there was nothing to look at.
func Doctor(_ context.Context, pid int) (*Diagnosis, error) {
	d := &Diagnosis{Pid: pid}
	diagnoseMachine(d)
	if pid == 0 {
		return d, nil
	}
	p, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	defer p.close()
	d.Exe = p.exe
	diagnoseAccess(d, p)
	diagnoseStatus(d, p)
	return d, nil
}

func diagnoseMachine(d *Diagnosis) {
	var u unix.Utsname
	release := "unknown kernel"
	if err := unix.Uname(&u); err == nil {
		release = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	if runtime.GOARCH == "amd64" {
		d.add("machine", FindingOK, "%s on x86-64", release)
	} else {
		d.block("machine", refuse(CodeMachine, nil, "use an x86-64 machine", "%s: this version guards x86-64 programs only", runtime.GOARCH))
	}
	diagnoseYama(d)
	d.Findings = append(d.Findings, breakpointsFinding(tracee.TryBreakpoints(), os.Geteuid() == 0))
	if line, err := os.ReadFile("/proc/cmdline"); err == nil && strings.Contains(string(line), "proc_mem.force_override=") {
		d.add("memory", FindingNote, "the kernel was started with proc_mem.force_override: code is written word by word")
	}
}

// followedByCalls is what comes of breakpoints that are of no use.
const followedByCalls = "programs that the agent holds are followed by system calls, which is slower"

// FollowedByCalls says why programs that the agent holds are followed from one system
// call to the next here, which is slower; it is empty where hardware breakpoints are hit.
func FollowedByCalls() string {
	if err := tracee.TryBreakpoints(); err != nil {
		return fmt.Sprintf("%v: %s", err, followedByCalls)
	}
	return ""
}

// breakpointsFinding says what was found out about hardware breakpoints. To who is not
// root the kernel may refuse what it gives the agent.
func breakpointsFinding(err error, root bool) Finding {
	f := Finding{What: "breakpoints", Verdict: FindingNote}
	switch {
	case err == nil:
		f.Verdict, f.Detail = FindingOK, "hardware breakpoints are hit: the agent follows programs that it holds by them"
	case !root && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)):
		f.Detail = "only root can tell here whether hardware breakpoints are hit: where they are not, " + followedByCalls
	default:
		f.Detail = fmt.Sprintf("%v: %s", err, followedByCalls)
	}
	return f
}

// diagnoseYama says what kernel.yama.ptrace_scope means here (Documentation/
// admin-guide/LSM/Yama.rst).
func diagnoseYama(d *Diagnosis) {
	b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return
	}
	switch scope := strings.TrimSpace(string(b)); {
	case scope == "0":
		d.add("ptrace", FindingOK, "Yama lets a user trace any process of the same user")
	case scope == "3":
		d.block("ptrace", refuse(CodePermission, nil, "it can be lowered only by a reboot", "kernel.yama.ptrace_scope is 3: nobody may trace"))
	case os.Geteuid() == 0:
		d.add("ptrace", FindingOK, "Yama restricts tracing (scope %s), but not for root", scope)
	case scope == "1":
		d.add("ptrace", FindingNote, "Yama lets an ordinary user trace own descendants only (scope 1); run pie as root for others")
	default:
		d.block("ptrace", refuse(CodePermission, nil, "run pie with CAP_SYS_PTRACE", "kernel.yama.ptrace_scope is %s: only CAP_SYS_PTRACE may trace", scope))
	}
}

// diagnoseAccess tries to pin the process the way an insertion would.
func diagnoseAccess(d *Diagnosis, p *process) {
	w, err := tracee.Open(p.pid)
	if err != nil {
		var r *Refusal
		if !errors.As(explain(err, p.String()), &r) {
			r = refuse(CodePermission, err, "run pie as root", "%s: %v", p, err)
		}
		d.block("access", r)
		return
	}
	defer w.Close()
	d.add("access", FindingOK, "memory can be read and written")
	var translated *Refusal
	if errors.As(p.checkTranslated(), &translated) && translated.Code == CodeTranslated {
		d.block("code", translated)
	}
	diagnoseHeadroom(d, w)
	diagnoseThreads(d, w)
}

func diagnoseHeadroom(d *Diagnosis, w *tracee.Process) {
	room, err := w.Headroom()
	switch {
	case err != nil:
		d.add("headroom", FindingNote, "could not be told: %v", err)
		return
	case w.Frozen():
		d.block("headroom", refuse(CodeFrozen, nil, "thaw its cgroup", "its cgroup is frozen"))
		return
	case room.AddressSpace < arena.Span:
		d.block("headroom", refuse(CodeHeadroom, nil, "raise RLIMIT_AS with prlimit(1)", "%d KiB of address space left, %d needed", room.AddressSpace>>10, arena.Span>>10))
		return
	case room.Mappings < insert.SpareMappings:
		d.block("headroom", refuse(CodeHeadroom, nil, "raise vm.max_map_count with sysctl(8)", "vm.max_map_count leaves %d mappings, %d must be left", room.Mappings, insert.SpareMappings))
		return
	case room.Cgroup < arena.Span:
		d.block("headroom", refuse(CodeHeadroom, nil, "raise the cgroup's memory limit", "%d KiB below the cgroup's memory limit, %d needed", room.Cgroup>>10, arena.Span>>10))
		return
	}
	d.add("headroom", FindingOK, "room for PIE's %d KiB", arena.Span>>10)
}

// diagnoseThreads says what its threads have in common that matters to guards.
func diagnoseThreads(d *Diagnosis, w *tracee.Process) {
	all, err := insert.Survey(w)
	switch {
	case err != nil:
		d.add("seccomp", FindingNote, "could not be told: %v", err)
	case all.Seccomp == insert.SeccompStrict:
		d.add("seccomp", FindingNote, "a thread is in strict seccomp mode: only guards that look at numbers among the arguments can go in, without a trial, into unused bytes behind its code and data, and they keep no events")
	case all.Seccomp != 0:
		d.add("seccomp", FindingNote, "a filter is on, and stays on: pie reads it when it has stopped a thread, and does nothing where it would kill the process for a call of pie's")
	default:
		d.add("seccomp", FindingOK, "no filter")
	}
	if all.Risk != "" {
		d.add("signals", FindingNote, "%s: guards read memory by system calls, about 1 µs each", all.Risk)
	}
}

func diagnoseStatus(d *Diagnosis, p *process) {
	s, err := p.read.Status()
	if err != nil {
		d.add("status", FindingBlocked, "%v", err)
		return
	}
	if s.Tracer != 0 {
		d.block("tracer", refuse(CodeTraced, nil, "detach it first", "pid %d traces it", s.Tracer))
	} else {
		d.add("tracer", FindingOK, "nobody traces it")
	}
	if s.ShadowStack {
		d.block("shadow stack", refuse(CodeShadowStack, nil, "start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off", "it runs with a shadow stack"))
	}
	diagnoseImages(d, p)
}

// diagnoseImages says what can be found by name, and whether another patcher
// was here.
func diagnoseImages(d *Diagnosis, p *process) {
	set, err := locate.Images(p.read)
	if err != nil {
		var r *Refusal
		if errors.As(explain(err, p.String()), &r) {
			d.block("program", r)
		} else {
			d.block("program", refuse(CodeNoImage, err, "pie reads the program from its file", "%v", err))
		}
		return
	}
	defer set.Close()
	d.add("program", FindingOK, "%s and %d libraries can be read", set.Images[0].Name(), len(set.Images)-1)
	for _, skipped := range set.Skipped {
		d.add("library", FindingNote, "%v", skipped)
	}
}
