package tracee

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A remote system call passes the target's seccomp filters (seccomp(2)). Their
// answer is known before the call is made: the filters are read from the
// stopped thread and run here on the very words the kernel will give them.
//
//	allow, log      the call is made as it is
//	errno, trace    PTRACE_O_SUSPEND_SECCOMP, where we may: when the tracer dies
//	                the suspension ends with it, the call answers an errno, and
//	                the frame heals the thread
//	anything else   the process would die with its tracer: refused
//
// Entering as rt_sigreturn and exchanging the number at the entry stop leaves
// two moments at which the death of the tracer kills the target; it is not done.

// Values of Seccomp in /proc/PID/status.
const (
	seccompOff    = 0
	seccompStrict = 1
)

// Actions of a filter, in its result's upper half (seccomp(2)).
const (
	retActionMask = 0xffff0000
	retErrno      = 0x00050000
	retTrace      = 0x7ff00000
	retLog        = 0x7ffc0000
	retAllow      = 0x7fff0000
)

const (
	// maxFilter is BPF_MAXINSNS.
	maxFilter = 4096
	// maxFilters is how many filters a thread may have: a container's, a service's and
	// a program's own are some tens. The kernel counts them anew for each that is read,
	// so that the thousands which it allows would take longer than a stop may.
	maxFilters = 256
)

// seccompData is struct seccomp_data, as 32-bit words.
type seccompData [16]uint32

func newSeccompData(nr uint64, ip uint64, args []uint64) *seccompData {
	const archX86_64 = 0xc000003e
	d := &seccompData{uint32(nr), archX86_64, uint32(ip), uint32(ip >> 32)}
	for i, a := range args[:min(len(args), 6)] {
		d[4+2*i], d[5+2*i] = uint32(a), uint32(a>>32)
	}
	return d
}

// allowed decides whether system call nr may be made, and suspends the filter
// where that is needed and harmless.
func (a *Attached) allowed(nr uint64, args []uint64) error {
	r := &a.remote
	if r.seccompMode == seccompOff {
		return nil
	}
	if r.seccompMode == seccompStrict {
		return fmt.Errorf("pid %d: thread %d is in strict seccomp mode: %w", a.p.Pid(), a.tid, ErrSeccomp)
	}
	ip := uint64(r.gadgets.syscallRet) + syscallInsnSize
	heal, err := a.seccompAction(newSeccompData(unix.SYS_RT_SIGRETURN, uint64(r.gadgets.healing()), nil))
	if err != nil {
		return err
	}
	if heal != retAllow && heal != retLog {
		return fmt.Errorf("pid %d: rt_sigreturn(2), which would heal it should pie die: %w", a.p.Pid(), ErrSeccomp)
	}
	action, err := a.seccompAction(newSeccompData(nr, ip, args))
	if err != nil {
		return err
	}
	switch action {
	case retAllow, retLog:
		return nil
	case retErrno, retTrace:
		return a.suspendSeccomp(nr)
	}
	return fmt.Errorf("pid %d: system call %d, which insertion needs: %w", a.p.Pid(), nr, ErrSeccomp)
}

func (a *Attached) suspendSeccomp(nr uint64) error {
	r := &a.remote
	if r.suspended {
		return nil
	}
	if errno := a.h.request("setoptions", unix.PTRACE_SETOPTIONS, a.tid, 0, attachOptions|optionSuspendSeccomp); errno != 0 {
		return fmt.Errorf("pid %d: its seccomp filter forbids system call %d, and suspending it takes CAP_SYS_ADMIN and no filter of our own: %w (%w)", a.p.Pid(), nr, ErrNoRemoteSyscall, errno)
	}
	r.suspended = true
	return nil
}

// seccompAction runs all filters of the stopped thread and returns the action
// that takes precedence: the smallest as a signed number.
func (a *Attached) seccompAction(d *seccompData) (uint32, error) {
	filter := a.remote.filter
	action := int32(retAllow)
	for i := uintptr(0); i < maxFilters; i++ {
		n, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, ptraceSeccompFilter, uintptr(a.tid), i, uintptr(unsafe.Pointer(&filter[0])), 0, 0)
		runtime.KeepAlive(filter)
		a.h.step("getfilter")
		if errno == unix.ENOENT {
			return uint32(action), nil
		}
		if errno != 0 || n > uintptr(len(filter)) {
			return 0, fmt.Errorf("pid %d: it runs under seccomp, and reading its filter takes CAP_SYS_ADMIN and no filter of our own: %w (%w)", a.p.Pid(), ErrNoRemoteSyscall, errno)
		}
		ret, err := runFilter(filter[:n], d)
		if err != nil {
			return 0, fmt.Errorf("pid %d: seccomp filter %d: %w: %w", a.p.Pid(), i, ErrNoRemoteSyscall, err)
		}
		action = min(action, int32(ret&retActionMask))
	}
	return 0, fmt.Errorf("pid %d: thread %d has more than %d seccomp filters: %w", a.p.Pid(), a.tid, maxFilters, ErrNoRemoteSyscall)
}

// runFilter runs a classic BPF program as seccomp allows it (the kernel's
// seccomp_check_filter): 32-bit loads of struct seccomp_data, scratch memory,
// arithmetic, forward jumps.
func runFilter(prog []unix.SockFilter, d *seccompData) (uint32, error) {
	var m filterMachine
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		switch in.Code & 7 {
		case unix.BPF_RET:
			if in.Code&0x18 == unix.BPF_A {
				return m.a, nil
			}
			return in.K, nil
		case unix.BPF_JMP:
			pc += m.jump(in)
		default:
			if err := m.step(in, d); err != nil {
				return 0, fmt.Errorf("instruction %d: %w", pc, err)
			}
		}
	}
	return 0, fmt.Errorf("runs off its end: %w", unix.EINVAL)
}

// filterMachine is the state of a running filter.
type filterMachine struct {
	a, x    uint32
	scratch [16]uint32
}

func (m *filterMachine) jump(in unix.SockFilter) int {
	if in.Code&0xf0 == unix.BPF_JA {
		return int(in.K)
	}
	v := m.operand(in)
	var taken bool
	switch in.Code & 0xf0 {
	case unix.BPF_JEQ:
		taken = m.a == v
	case unix.BPF_JGT:
		taken = m.a > v
	case unix.BPF_JGE:
		taken = m.a >= v
	case unix.BPF_JSET:
		taken = m.a&v != 0
	}
	if taken {
		return int(in.Jt)
	}
	return int(in.Jf)
}

// operand is X or the constant.
func (m *filterMachine) operand(in unix.SockFilter) uint32 {
	if in.Code&unix.BPF_X != 0 {
		return m.x
	}
	return in.K
}

func (m *filterMachine) step(in unix.SockFilter, d *seccompData) error {
	switch in.Code & 7 {
	case unix.BPF_LD, unix.BPF_LDX:
		v, err := m.load(in, d)
		if in.Code&7 == unix.BPF_LD {
			m.a = v
		} else {
			m.x = v
		}
		return err
	case unix.BPF_ST, unix.BPF_STX:
		if in.K >= uint32(len(m.scratch)) {
			return unix.EINVAL
		}
		m.scratch[in.K] = m.a
		if in.Code&7 == unix.BPF_STX {
			m.scratch[in.K] = m.x
		}
	case unix.BPF_ALU:
		return m.compute(in)
	case unix.BPF_MISC:
		if in.Code&0xf8 == unix.BPF_TXA {
			m.a = m.x
		} else {
			m.x = m.a
		}
	}
	return nil
}

func (m *filterMachine) load(in unix.SockFilter, d *seccompData) (uint32, error) {
	switch in.Code & 0xe0 {
	case unix.BPF_IMM:
		return in.K, nil
	case unix.BPF_LEN:
		return uint32(unsafe.Sizeof(*d)), nil
	case unix.BPF_MEM:
		if in.K < uint32(len(m.scratch)) {
			return m.scratch[in.K], nil
		}
	case unix.BPF_ABS:
		if in.K%4 == 0 && in.K/4 < uint32(len(d)) {
			return d[in.K/4], nil
		}
	}
	return 0, unix.EINVAL
}

func (m *filterMachine) compute(in unix.SockFilter) error {
	v := m.operand(in)
	switch in.Code & 0xf0 {
	case unix.BPF_ADD:
		m.a += v
	case unix.BPF_SUB:
		m.a -= v
	case unix.BPF_MUL:
		m.a *= v
	case unix.BPF_DIV:
		if v == 0 {
			return unix.EINVAL // the kernel ends the filter with 0, which kills
		}
		m.a /= v
	case unix.BPF_OR:
		m.a |= v
	case unix.BPF_AND:
		m.a &= v
	case unix.BPF_XOR:
		m.a ^= v
	case unix.BPF_LSH:
		m.a <<= v
	case unix.BPF_RSH:
		m.a >>= v
	case unix.BPF_NEG:
		m.a = -m.a
	default:
		return unix.EINVAL
	}
	return nil
}
