package pie

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// explain turns what a lower package says about who into a Refusal with a
// reason code and advice. An error that no row knows is returned with who in
// front of it: it is a failure, not a refusal.
func explain(err error, who string) error {
	var done *Refusal
	if err == nil || errors.As(err, &done) {
		return err
	}
	for _, f := range []func(error, string) *Refusal{explainProcess, explainFunction, explainSymbol, explainFile, explainPlan} {
		if r := f(err, who); r != nil {
			r.Err = err
			return r
		}
	}
	return fmt.Errorf("%s: %w", who, err)
}

// explainProcess is about what keeps pie from the process.
func explainProcess(err error, who string) *Refusal {
	var perm *tracee.PermissionError
	var traced *tracee.TracedError
	var elf *binfile.UnsupportedError
	switch {
	case errors.As(err, &perm):
		return refuse(CodePermission, nil, perm.Advice, "%s: %s is not permitted (%s)", who, perm.Op, perm.Policy)
	case errors.As(err, &traced):
		return refuse(CodeTraced, nil, "detach it first: a process has one tracer at a time",
			"%s is traced already, by pid %d (%s)", who, traced.By, traced.Name)
	case errors.Is(err, tracee.ErrSelf):
		return refuse(CodeSelf, nil, "run pie in another process than the one to be guarded", "%s is pie itself", who)
	case errors.Is(err, tracee.ErrZombie), errors.Is(err, tracee.ErrGone), errors.Is(err, proc.ErrGone):
		return refuse(CodeNoProcess, nil, "see what runs with pie scan, or name it with --exe", "%s: no such process", who)
	case errors.Is(err, tracee.ErrKernelThread), errors.Is(err, proc.ErrNoExe):
		return refuse(CodeKernelThread, nil, "name a program; this one lives in the kernel", "%s is a kernel thread", who)
	case errors.As(err, &elf) && elf.Is32Bit():
		return refuse(CodeCompat, nil, "only 64-bit x86-64 programs can be guarded", "%s is a 32-bit program", who)
	case errors.As(err, &elf), errors.Is(err, tracee.ErrNotAMD64):
		return refuse(CodeMachine, nil, "only 64-bit x86-64 programs can be guarded", "%s is not a 64-bit x86-64 program", who)
	case errors.Is(err, os.ErrPermission):
		return refuse(CodePermission, nil, "run pie with CAP_SYS_PTRACE, as root has it outside of containers, or as the user of a process it may trace: pie doctor --pid N tells", "%s: %s", who, unnamed(err))
	case errors.Is(err, tracee.ErrFrozen):
		return refuse(CodeFrozen, nil, "thaw its cgroup, then insert", "%s is frozen by its cgroup", who)
	case errors.Is(err, tracee.ErrBusy):
		return refuse(CodeBusy, nil, "try again in a moment", "%s: %v", who, err)
	case errors.Is(err, tracee.ErrNoExec):
		return refuse(CodeStale, nil, "guard it when it runs", "%s: %v", who, err)
	case errors.Is(err, tracee.ErrSeccomp):
		return refuse(CodeNoSyscall, nil, "guard the process that starts it: children inherit guards by fork(2), and enter their sandbox with them",
			"%s: its seccomp filter ends it, or has another process answer, for a system call that insertion needs; switched off for that, it would do so when pie died meanwhile", who)
	case errors.Is(err, tracee.ErrNoRemoteSyscall):
		return refuse(CodeNoSyscall, nil, "guard the process that it was forked from: a child inherits guards, and enters its sandbox with them",
			"%s: no system call can be run in it without a risk: %s", who, why(err, tracee.ErrNoRemoteSyscall))
	}
	return nil
}

// pidPrefix is how lower packages call a process that who in a refusal names. Inside a
// sentence ("thread 7 of pid 6: …") it belongs to that.
var pidPrefix = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(^|: )pid [0-9]+: `) })

// unnamed is what err says, without the process.
func unnamed(err error) string { return pidPrefix().ReplaceAllString(err.Error(), "$1") }

// why is what err says without the process and without the sentinel, which the
// refusal says in its own words.
func why(err, sentinel error) string {
	return strings.ReplaceAll(unnamed(err), ": "+sentinel.Error(), "")
}

// explainFunction is about finding the function.
func explainFunction(err error, who string) *Refusal {
	var missing *locate.NotFound
	var several *locate.Ambiguous
	var indirect *locate.Indirect
	var library *locate.NoLibrary
	var mirror *debuginfo.Mismatch
	switch {
	case errors.As(err, &mirror):
		return refuse(CodeMirror, nil, "this build has another layout: correct the struct in the prepatch, or find the prepatch for this version", "%s: %v", who, mirror)
	case errors.As(err, &missing):
		r := refuse(CodeNotFound, nil, "check the name in the prepatch; stripped programs keep few names", "%s: no function %s in %s", who, missing.Func, missing.Image)
		switch {
		case len(missing.Libraries) > 0:
			r.Instead = "name the library with lib=, or --lib: it is in " + strings.Join(missing.Libraries, ", ")
		case len(missing.Near) > 0:
			r.Instead = "names like it: " + strings.Join(missing.Near, ", ")
		}
		if missing.Servers != nil {
			r.Details = append(r.Details, missing.Servers.Error())
		}
		return r
	case errors.As(err, &several):
		r := refuse(CodeAmbiguous, nil, "say which one in func=, as file.c:name or name@VERSION", "%s: %s means %d functions:", who, several.Func, len(several.Candidates))
		for _, f := range several.Candidates {
			r.Details = append(r.Details, fmt.Sprintf("%s at %v (%s)", f.Name, f.Vaddr, f.How))
		}
		return r
	case errors.As(err, &indirect):
		return refuse(CodeIndirect, nil, "guard one of the implementations by its own name", "%s: %v", who, indirect)
	case errors.As(err, &library):
		return refuse(CodeNoImage, nil, "the process does not use the library; it maps "+strings.Join(library.Mapped, ", "),
			"%s maps no library %s", who, library.SOName)
	case errors.Is(err, locate.ErrOtherExe):
		return refuse(CodeNoImage, nil, "name a process that runs the program the prepatch is for", "%s: %s", who, unnamed(err))
	case errors.Is(err, locate.ErrAssembly):
		return refuse(CodeAssembly, nil, "guard the Go function that calls it", "%s: %v", who, err)
	case errors.Is(err, locate.ErrTooManyNames):
		return refuse(CodeAmbiguous, nil, "give the mangled name in func=, as nm(1) prints it", "%s: %v", who, err)
	case errors.Is(err, locate.ErrNoSize):
		return refuse(CodeNoSize, nil, "guard a function that calls it: without its end, nobody can tell which bytes are its own", "%s: %v", who, err)
	case errors.Is(err, locate.ErrNotCode):
		return refuse(CodeNotCode, nil, "name a function in func=; this is a variable, or an address outside the program's code", "%s: %v", who, err)
	}
	return nil
}

// explainSymbol is about what a guard refers to besides its function.
func explainSymbol(err error, who string) *Refusal {
	var variable *locate.NoSymbol
	var callable *locate.NotCallable
	switch {
	case errors.As(err, &variable):
		return refuse(CodeNoSymbol, nil, "write the guard without it, or install the program's debug symbols (package …-dbgsym), which have the name", "%s: %v", who, err)
	case errors.As(err, &callable):
		return refuse(CodeNoSymbol, nil, "write the guard without the call, or call a function of the program or of a library that it is linked with", "%s: %v", who, callable)
	case errors.Is(err, locate.ErrThreadLocal):
		return refuse(CodeNoSymbol, nil, "write the guard without it: each thread has one of its own", "%s: %v", who, err)
	case errors.Is(err, locate.ErrNoErrno):
		return refuse(CodeNoErrno, nil, "reject with a value alone, such as reject:-1, if the callers do not look at errno", "%s: %v", who, err)
	}
	return nil
}

// explainFile is about the files that the process was started from.
func explainFile(err error, who string) *Refusal {
	var damaged *binfile.FormatError
	var untrusted *proc.UntrustedFS
	switch {
	case errors.As(err, &damaged):
		return refuse(CodeDamaged, nil, "compare it with its package (dpkg --verify, rpm -V): pie does not guess where a file contradicts itself", "%s: %v", who, err)
	case errors.Is(err, binfile.ErrNotELF):
		return refuse(CodeDamaged, nil, "guard the process of a program: a script's is that of its interpreter", "%s: %v", who, err)
	case errors.As(err, &untrusted), errors.Is(err, proc.ErrSlowFile), errors.Is(err, proc.ErrSlowMemory):
		return refuse(CodeUntrusted, nil, "start the program from a file system of the kernel (ext4, xfs, overlay mounted by root …), then insert", "%s: %v", who, err)
	case errors.Is(err, proc.ErrReplaced):
		return refuse(CodeReplaced, nil, "run pie as root, who can read the file although an upgrade has replaced it", "%s: %v", who, err)
	case errors.Is(err, proc.ErrNotRegular):
		return refuse(CodeReplaced, nil, "only code that is mapped from a file can be guarded", "%s: %v", who, err)
	case errors.Is(err, binfile.ErrGoFormat):
		return refuse(CodeUnsupported, nil, "a newer pie may know this Go release", "%s: %v", who, err)
	case errors.Is(err, locate.ErrNoText):
		return refuse(CodeNoText, nil, "a packed or self-unpacking program keeps its code elsewhere: start it unpacked", "%s: %v", who, err)
	}
	return nil
}

// explainPlan is about what would be written.
func explainPlan(err error, who string) *Refusal {
	var place *jit.PlaceError
	var refusal *plan.Refusal
	var site *insert.SiteError
	var room *insert.HeadroomError
	var mappings *insert.MappingsError
	var corrupt *arena.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return refuse(CodeArena, nil, "the program wrote into PIE's memory, by accident or not: restart it", "%s: %v", who, corrupt)
	case errors.As(err, &refusal):
		instead := refusal.Instead
		if instead == "" {
			instead = "guard its caller instead: pie plan tells what would be done"
		}
		return refuse(Code(refusal.Code), nil, instead, "%s: %s", who, refusal.Msg)
	case errors.As(err, &site):
		return refuse(Code(site.Code), nil, "take out what is there first: a breakpoint, a uprobe or another patcher", "%v", site)
	case errors.As(err, &room):
		return refuse(CodeHeadroom, nil, "raise the limit, then insert", "%s: %s leaves %d KiB, %d KiB are needed", who, room.Limit, room.Have>>10, room.Need>>10)
	case errors.As(err, &mappings):
		return refuse(CodeHeadroom, nil, "raise vm.max_map_count with sysctl(8), then insert", "%s: %v", who, mappings)
	case errors.Is(err, insert.ErrOtherVersion):
		return refuse(CodeOther, nil, "take it out first with pie remove", "%s: %v", who, insert.ErrOtherVersion)
	case errors.Is(err, insert.ErrPartial):
		return refuse(CodePartly, nil, "pie repair, then insert again", "%s: %v", who, insert.ErrPartial)
	case errors.Is(err, insert.ErrNotIn):
		return refuse(CodeNotIn, nil, "pie status lists what is in", "%s: %v", who, insert.ErrNotIn)
	case errors.Is(err, insert.ErrBusySite):
		return refuse(CodeBusy, nil, "try again; a thread stays in these bytes for as long as it waits there", "%s: %v", who, insert.ErrBusySite)
	case errors.Is(err, insert.ErrStale), errors.Is(err, proc.ErrChanged):
		return refuse(CodeStale, nil, "try again", "%s: %v", who, err)
	case errors.As(err, &place):
		return refuse(CodePlace, nil, "the guard does not fit the function's calling convention or the process; pie plan shows both", "%s: %v", who, place)
	case errors.Is(err, arena.ErrNoGap):
		return refuse(CodeHeadroom, nil, "no room for 104 KiB within 2 GiB of the function", "%s: %v", who, err)
	case errors.Is(err, arena.ErrFull):
		return refuse(CodeHeadroom, nil, "remove a prepatch first: pie status lists what is in", "%s: %v", who, err)
	}
	return nil
}
