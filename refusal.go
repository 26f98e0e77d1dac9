package pie

import (
	"errors"
	"fmt"
)

// Code is the stable reason of a refusal. Programs compare it; it never
// changes its spelling once released.
type Code string

// Reasons that package pie itself gives. plan adds its own (site_too_short,
// site_branch …), which pass through unchanged.
const (
	CodeNoProcess    Code = "no_process"        // there is no such process
	CodeGone         Code = "process_gone"      // it ended, or runs another program now
	CodePermission   Code = "permission"        // the kernel does not let pie do that to the process
	CodeTraced       Code = "traced"            // another tracer holds it
	CodeSelf         Code = "self"              // the target is pie itself, or what pie runs under
	CodeMachine      Code = "machine"           // another instruction set than this pie was built for
	CodeCompat       Code = "target_32bit"      // a 32-bit program
	CodeKernelThread Code = "kernel_thread"     // no user memory to guard
	CodeNotFound     Code = "function_missing"  // no such function in the images named
	CodeNoImage      Code = "image_missing"     // the executable or library is not mapped
	CodeAmbiguous    Code = "function_several"  // several functions of that name
	CodeCopies       Code = "function_copies"   // copies of the function would stay unguarded
	CodeSeccomp      Code = "seccomp"           // a filter may kill the program for what the guard does
	CodeResult       Code = "result_shape"      // the function returns something else than the guard rejects with
	CodeMirror       Code = "struct_differs"    // debug information lays a struct out otherwise than the guard
	CodeNoMatch      Code = "match_missing"     // the fingerprint finds nothing that could be answered for
	CodeUnsure       Code = "match_unconfirmed" // the fingerprint finds one that a person has to look at
	CodeFixed        Code = "already_fixed"     // the build has the vendor's fix
	CodeCompile      Code = "prepatch_compile"  // the prepatch is not in the guard subset
	CodeVerify       Code = "prepatch_unproven" // the verifier could not prove the guard safe
	CodePrepatch     Code = "prepatch_missing"  // no such prepatch
	CodeUnsupported  Code = "unsupported"       // a form this version of pie does not read yet
	CodeExpired      Code = "prepatch_expired"  // past its //pie:expires
	CodeNotIn        Code = "prepatch_not_in"   // the process has no such prepatch
	CodeOther        Code = "other_version"     // the same id is in with other content
	CodeInterrupted  Code = "interrupted"       // the command was interrupted before this process was changed
	CodePartly       Code = "prepatch_partly"   // a killed pie left some of its guards in
	CodeStale        Code = "process_changed"   // it mapped or unmapped memory meanwhile
	CodeBytes        Code = "bytes_differ"      // memory is not what the file says
	CodeHeadroom     Code = "no_headroom"       // a memory limit leaves no room for the arena
	CodeGroups       Code = "several_groups"    // the target names unrelated processes
	CodeNoCore       Code = "core_unreadable"   // no core file of an x86-64 process
	CodeFrozen       Code = "frozen"            // a frozen cgroup: nothing in it can stop
	CodeBusy         Code = "thread_busy"       // a thread in the kernel does not stop
	CodeNoSyscall    Code = "no_remote_syscall" // seccomp or the like forbids the calls that insertion needs
	CodeNoTrial      Code = "no_trial"          // a guard in this process could not tell when its trial is over
	CodeShadowStack  Code = "shadow_stack"      // shadow stacks forbid the frames that insertion needs
	CodeIndirect     Code = "function_indirect" // an IFUNC whose choice could not be told
	CodePlace        Code = "guard_unplaceable" // the guard needs what the function's ABI or the process lacks
	CodeAssembly     Code = "function_assembly" // a Go function written in assembly
	CodeNoSize       Code = "function_size"     // where the function ends cannot be told
	CodeNotCode      Code = "function_not_code" // the name or address is not that of code
	CodeNoSymbol     Code = "symbol_missing"    // a variable that the guard refers to has no known address
	CodeNoErrno      Code = "errno_missing"     // the guard sets errno, and where it is cannot be told
	CodeDamaged      Code = "file_malformed"    // a file of the process contradicts itself
	CodeUntrusted    Code = "file_untrusted"    // a file lies where a program answers reads, or does not answer
	CodeReplaced     Code = "file_replaced"     // the mapped file is no longer at its path, or no regular file
	CodeNoText       Code = "code_unmapped"     // the executable's code is not mapped from its file
	CodeTranslated   Code = "code_translated"   // it runs under valgrind or the like: what runs is not the code that is mapped
	CodeCanary       Code = "canary"            // the first processes did not do well, and it was taken out again
	CodePolicy       Code = "policy"            // the agent's policy has a mistake
	CodeNoDebugInfo  Code = "no_debug_info"     // nothing tells the program's types and parameters
	CodeNoType       Code = "type_missing"      // debug information has no such type
	CodeExists       Code = "file_exists"       // a file that would be written is there already
	CodeNoTest       Code = "test_missing"      // the prepatch has no test to run
	CodeNoGo         Code = "go_missing"        // no Go toolchain, which only tests need
	CodeEvidence     Code = "evidence_refused"  // the prepatch does not allow so much to be recorded
	CodeRecord       Code = "not_recordable"    // the guard, or the process, cannot be recorded
	CodeRecording    Code = "recording_damaged" // no recording, or a damaged one
	CodeNoCalls      Code = "recording_empty"   // it has no call of a function that the prepatch guards
	CodeArena        Code = "arena_damaged"     // PIE's memory in the process cannot be trusted
)

// A Refusal says why something was not done. Nothing was changed: what was
// begun has been rolled back before a Refusal is returned.
type Refusal struct {
	Code    Code     `json:"code"`
	Msg     string   `json:"message"`           // what is wrong, with the process or the file:line it is about
	Details []string `json:"details,omitempty"` // more of the same, one line each
	Instead string   `json:"instead"`           // what the operator can do; never empty
	Err     error    `json:"-"`                 // the cause, may be nil
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s [%s]", r.Msg, r.Code) }

func (r *Refusal) Unwrap() error { return r.Err }

// ReasonOf returns the reason code of err, or "" when err is no refusal.
func ReasonOf(err error) Code {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// refuseEach makes a Refusal of the errors that err joins, one line each.
func refuseEach(code Code, err error, instead string) *Refusal {
	lines := eachLine(err)
	return &Refusal{Code: code, Msg: lines[0], Details: lines[1:], Instead: instead, Err: err}
}

// eachLine returns the messages of the errors that err joins, at least one.
func eachLine(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var lines []string
	for _, e := range joined.Unwrap() {
		lines = append(lines, eachLine(e)...)
	}
	if len(lines) == 0 {
		return []string{err.Error()}
	}
	return lines
}

// refuse makes a Refusal.
func refuse(code Code, cause error, instead, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Msg: fmt.Sprintf(format, args...), Instead: instead, Err: cause}
}
