package tracee

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// permission turns EPERM or EACCES into who forbids it: another tracer, or
// the policy that PTRACE_MODE_ATTACH_REALCREDS (ptrace(2)) failed on.
func (p *Process) permission(op string, errno error) error {
	st, err := p.Status()
	if err != nil {
		return err
	}
	if st.State == 'Z' || st.State == 'X' {
		return fmt.Errorf("pid %d (%q): %w", p.Pid(), p.name, ErrZombie)
	}
	if st.Tracer != 0 {
		return p.traced(st.Tracer)
	}
	e := &PermissionError{PID: p.Pid(), Op: op, Err: errno}
	e.Policy, e.Advice = p.policy(st.UID)
	return e
}

// Untraced returns a *TracedError when somebody traces a thread of the process, as
// whoever stops it would find out.
func (p *Process) Untraced() error {
	tids, err := p.Tasks()
	if err != nil {
		return err
	}
	for _, tid := range tids {
		if st, err := p.Task(tid); err == nil && st.Tracer != 0 {
			return p.traced(st.Tracer)
		}
	}
	return nil
}

// traced names a tracer, of which the kernel tells the thread.
func (p *Process) traced(tid int) error {
	e := &TracedError{PID: p.Pid(), By: tid, Name: commandName(tid)}
	if st, err := taskStatus(tid, tid); err == nil {
		e.By, e.Name = st.Tgid, commandName(st.Tgid)
	}
	return e
}

// policy looks for the first rule, in the kernel's order, that explains a refusal.
func (p *Process) policy(uid uint32) (Policy, string) {
	capable := hasCapability(unix.CAP_SYS_PTRACE)
	if !capable && p.inOtherUserNS() {
		return PolicyUserNS, "run pie as root of the user namespace that owns the process"
	}
	if !capable && uid != uint32(os.Geteuid()) {
		return PolicyCapability, fmt.Sprintf("it belongs to user %d; run pie as that user or with CAP_SYS_PTRACE", uid)
	}
	if !capable && p.isNonDumpable(uid) {
		return PolicyNonDumpable, "the process forbids tracing by its own user; run pie with CAP_SYS_PTRACE"
	}
	switch scope := yamaScope(); {
	case scope == 3:
		return PolicyYama, "kernel.yama.ptrace_scope is 3, which forbids ptrace until the next boot"
	case scope > 0 && !capable:
		return PolicyYama, fmt.Sprintf("kernel.yama.ptrace_scope is %d; run pie with CAP_SYS_PTRACE", scope)
	}
	if label := securityLabel("/proc/self/attr/current"); label != "" && label != "unconfined" {
		return PolicyLSM, fmt.Sprintf("pie runs as %q; allow it to ptrace %q", label, securityLabel(fmt.Sprintf("/proc/%d/attr/current", p.Pid())))
	}
	if p.inOtherUserNS() {
		return PolicyUserNS, "run pie as root of the user namespace that owns the process, or of the initial one"
	}
	return PolicyUnknown, "look for a security module or a container runtime that blocks ptrace"
}

// hasCapability tells whether capability c (0–31) is in our effective set.
func hasCapability(c uint) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[c/32].Effective&(1<<(c%32)) != 0
}

func (p *Process) inOtherUserNS() bool {
	own, err1 := os.Readlink("/proc/self/ns/user")
	its, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", p.Pid()))
	return err1 == nil && err2 == nil && own != its
}

// isNonDumpable uses that the files in /proc/PID of a non-dumpable process
// belong to root while the process itself does not (proc(5)).
func (p *Process) isNonDumpable(uid uint32) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(p.dir.Fd()), "status", &st, 0) == nil && st.Uid == 0 && uid != 0
}

// yamaScope returns kernel.yama.ptrace_scope, 0 without Yama.
func yamaScope() int {
	text, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil || len(text) == 0 || text[0] < '0' || text[0] > '3' {
		return 0
	}
	return int(text[0] - '0')
}

// securityLabel reads an LSM label; "" without one.
func securityLabel(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(text), "\x00\n")
}

// commandName reads a process's comm, "" if it is gone.
func commandName(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}
