package detours

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// run is one start of a program and what came of it.
type run struct {
	dir    string
	argv   []string
	stdin  string // a file, or empty
	detour *overlay
	watch  []address.Addr // where breakpoints tell whether the program comes by

	seen   map[address.Addr]bool // of watch
	output []byte
	ended  string
}

// overlay is what is put into a program before its first instruction.
type overlay struct {
	memory  *os.File // mapped at lo
	lo, hi  address.Addr
	patches []patch
}

type patch struct {
	at    address.Addr
	bytes []byte
}

// limit is the longest that a program may run.
const limit = 4 * time.Minute

// do starts the program, stopped at its first instruction and at the same
// addresses each time, changes it, and lets it run to its end.
func (r *run) do(t testing.TB) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // ptrace(2) is of one thread; it ends with the goroutine
		done <- r.trace()
	}()
	if err := <-done; err != nil {
		t.Fatalf("%s: %v", strings.Join(r.argv, " "), err)
	}
}

func (r *run) trace() error {
	cmd := exec.Command(r.argv[0], r.argv[1:]...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.dir, &out, &out
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if r.stdin != "" {
		in, err := os.Open(r.stdin)
		if err != nil {
			return err
		}
		defer in.Close()
		cmd.Stdin = in
	}
	if r.detour != nil {
		cmd.ExtraFiles = []*os.File{r.detour.memory}
	}
	if err := startUnrandomized(cmd); err != nil {
		return err
	}
	kill := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if err := r.change(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	r.output, r.ended = out.Bytes(), cmd.ProcessState.String()
	return nil
}

// startUnrandomized starts cmd with its addresses as they always are: a child has
// the personality(2) of the thread that forks it.
func startUnrandomized(cmd *exec.Cmd) error {
	const addrNoRandomize = 0x40000
	old, _, errno := unix.Syscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	if errno != 0 {
		return errno
	}
	if _, _, errno := unix.Syscall(unix.SYS_PERSONALITY, old|addrNoRandomize, 0, 0); errno != 0 {
		return errno
	}
	err := cmd.Start()
	_, _, _ = unix.Syscall(unix.SYS_PERSONALITY, old, 0, 0)
	return err
}

// change waits for the stop at the first instruction, does what r asks, and lets
// the process go: at once, or when it has passed all that is watched.
func (r *run) change(pid int) error {
	if err := awaitTrap(pid); err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	if r.detour != nil {
		if err := r.detour.apply(pid, mem); err != nil {
			return err
		}
	}
	if len(r.watch) > 0 {
		return r.watched(pid, mem)
	}
	return unix.PtraceDetach(pid)
}

// awaitTrap waits until pid has stopped by SIGTRAP.
func awaitTrap(pid int) error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if !status.Stopped() || status.StopSignal() != unix.SIGTRAP {
		return fmt.Errorf("stopped with status %#x instead of SIGTRAP", int(status))
	}
	return nil
}

// apply maps the memory, from descriptor 3, and writes the patches.
func (o *overlay) apply(pid int, mem *os.File) error {
	const fd, flags = 3, unix.MAP_SHARED | unix.MAP_FIXED_NOREPLACE
	const rwx = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	got, err := remoteCall(pid, mem, unix.SYS_MMAP, uint64(o.lo), uint64(o.hi-o.lo), rwx, flags, fd, 0)
	if err != nil {
		return err
	}
	if got != uint64(o.lo) {
		return fmt.Errorf("mapping %v-%v: %v", o.lo, o.hi, syscall.Errno(-got))
	}
	if _, err := remoteCall(pid, mem, unix.SYS_CLOSE, fd); err != nil {
		return err
	}
	for _, p := range o.patches {
		if _, err := mem.WriteAt(p.bytes, int64(p.at)); err != nil {
			return fmt.Errorf("at %v: %w", p.at, err)
		}
	}
	return nil
}

// remoteCall has the stopped process make a system call where it stands.
func remoteCall(pid int, mem *os.File, nr uint64, args ...uint64) (uint64, error) {
	var saved unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &saved); err != nil {
		return 0, err
	}
	old, at := make([]byte, 3), int64(saved.Rip)
	if _, err := mem.ReadAt(old, at); err != nil {
		return 0, err
	}
	if _, err := mem.WriteAt([]byte{0x0f, 0x05, 0xcc}, at); err != nil { // syscall; int3
		return 0, err
	}
	regs := saved
	regs.Rax, regs.Orig_rax = nr, ^uint64(0)
	for i, r := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx, &regs.R10, &regs.R8, &regs.R9}[:len(args)] {
		*r = args[i]
	}
	err := errors.Join(unix.PtraceSetRegs(pid, &regs), unix.PtraceCont(pid, 0))
	if err == nil {
		err = awaitTrap(pid)
	}
	if err == nil {
		err = unix.PtraceGetRegs(pid, &regs)
	}
	_, back := mem.WriteAt(old, at)
	return regs.Rax, errors.Join(err, back, unix.PtraceSetRegs(pid, &saved))
}

// watched lets the process run over breakpoints, each of which it meets once.
func (r *run) watched(pid int, mem *os.File) error {
	r.seen = map[address.Addr]bool{}
	under := map[address.Addr][]byte{}
	for _, a := range r.watch {
		b := make([]byte, 1)
		if _, err := mem.ReadAt(b, int64(a)); err != nil {
			return err
		}
		under[a] = b
	}
	for a := range under {
		if _, err := mem.WriteAt([]byte{0xcc}, int64(a)); err != nil {
			return err
		}
	}
	for signal := 0; ; {
		if err := unix.PtraceCont(pid, signal); err != nil {
			return err
		}
		// waitid leaves the end itself to cmd.Wait.
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
			return err
		}
		if code := info.Code; code != cldTrapped && code != cldStopped {
			return nil
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
			return err
		}
		signal = int(status.StopSignal())
		var regs unix.PtraceRegs
		if err := unix.PtraceGetRegs(pid, &regs); err != nil {
			return err
		}
		at := address.Addr(regs.Rip - 1)
		if b, ours := under[at]; ours && signal == int(unix.SIGTRAP) && !r.seen[at] {
			r.seen[at], signal, regs.Rip = true, 0, regs.Rip-1
			if _, err := mem.WriteAt(b, int64(at)); err != nil {
				return err
			}
			if err := unix.PtraceSetRegs(pid, &regs); err != nil {
				return err
			}
		}
	}
}

// si_code values of SIGCHLD (sigaction(2)).
const (
	cldTrapped = 4
	cldStopped = 5
)

// biasOf is where the program at path is mapped when it is started so.
func biasOf(t testing.TB, path string, m *module) address.Bias {
	t.Helper()
	if !m.isPIE {
		return 0
	}
	result := make(chan address.Bias)
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		cmd := exec.Command(path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		if err := startUnrandomized(cmd); err != nil {
			failed <- err
			return
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		if err := awaitTrap(cmd.Process.Pid); err != nil {
			failed <- err
			return
		}
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", cmd.Process.Pid))
		if err != nil {
			failed <- err
			return
		}
		for _, line := range strings.Split(string(maps), "\n") {
			if strings.HasSuffix(line, path) {
				var start uint64
				if _, err := fmt.Sscanf(line, "%x-", &start); err == nil {
					result <- address.BiasOf(address.Addr(start), address.Vaddr(m.start))
					return
				}
			}
		}
		failed <- fmt.Errorf("%s is not in its own maps", path)
	}()
	select {
	case b := <-result:
		return b
	case err := <-failed:
		t.Fatal(err)
		return 0
	}
}
