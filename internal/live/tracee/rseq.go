package tracee

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// rseqConfig is struct ptrace_rseq_configuration.
type rseqConfig struct {
	pointer         uint64
	size, signature uint32
	flags, pad      uint32
}

// leaveRseq takes a thread that stands in a restartable sequence (rseq(2)) to
// the sequence's abort handler, as the kernel does when it preempts one. While
// the thread runs our call elsewhere, the kernel forgets that it was in a
// sequence; put back into the middle, it would finish with another CPU's data.
func (a *Attached) leaveRseq() error {
	regs := &a.remote.regs
	if inSyscall(regs) {
		return nil // system calls are forbidden inside a sequence
	}
	var c rseqConfig
	errno := a.h.requestAt("getrseq", ptraceRseqConfig, a.tid, unsafe.Sizeof(c), unsafe.Pointer(&c))
	runtime.KeepAlive(&c)
	if errno == unix.ESRCH {
		return a.lost("reading its rseq registration", errno)
	}
	if errno != 0 { // before Linux 5.13: another moment will find it in a system call
		return fmt.Errorf("pid %d: thread %d may be in a restartable sequence: %w", a.p.Pid(), a.tid, ErrBusy)
	}
	if c.pointer == 0 {
		return nil
	}
	const offsetCS = 8 // rseq_cs in struct rseq
	var b [32]byte
	if err := a.memory.read(b[:8], address.Addr(c.pointer+offsetCS)); err != nil {
		return err
	}
	descriptor := binary.LittleEndian.Uint64(b[:8])
	if descriptor == 0 {
		return nil
	}
	if err := a.memory.read(b[:], address.Addr(descriptor)); err != nil {
		return err
	}
	regs.Rip = afterRseq(b, regs.Rip)
	return nil
}

// afterRseq returns where a thread at pc goes on when the sequence that struct
// rseq_cs describes is preempted.
func afterRseq(cs [32]byte, pc uint64) uint64 {
	le := binary.LittleEndian
	start, length, abort := le.Uint64(cs[8:]), le.Uint64(cs[16:]), le.Uint64(cs[24:])
	if pc-start < length {
		return abort
	}
	return pc
}
