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

// Fields of struct rseq (linux/rseq.h): u32 cpu_id_start and cpu_id, u64 rseq_cs. cpu_id is
// rseqNoCPU or more while nothing is registered; no machine has rseqManyCPUs.
const (
	rseqCS       = 8
	rseqNoCPU    = 1<<32 - 2
	rseqManyCPUs = 1 << 16
)

// HasRseq tells whether the stopped thread has registered the struct rseq that is offset
// bytes from its fs base, with the given signature. Before Linux 5.13 nobody can tell.
func (a *Attached) HasRseq(offset int32, signature uint32) bool {
	c, errno := a.rseqConfig()
	return errno == 0 && c.pointer == a.remote.regs.Fs_base+uint64(offset) && c.signature == signature
}

func (a *Attached) rseqConfig() (c rseqConfig, errno unix.Errno) {
	errno = a.h.requestAt("getrseq", ptraceRseqConfig, a.tid, unsafe.Sizeof(c), unsafe.Pointer(&c))
	runtime.KeepAlive(&c)
	return c, errno
}

// AllHaveRseq tells whether all threads that stand still, and were not shown before, may have a
// struct rseq offset bytes from their fs base: each has the thread control block that glibc
// makes, which points to itself (tcbhead_t), and there what an rseq holds. A thread that the
// program has made by itself, without the C library, has something else there.
func (w *World) AllHaveRseq(offset int32) bool {
	var b rseqBatch
	for i := range w.crowd.tasks {
		t := &w.crowd.tasks[i]
		if t.foreign || t.shown || t.state != taskStopped {
			continue
		}
		b.add(t.regs.Fs_base, offset)
		if b.n == len(b.bases) && !b.hold(w.memory) {
			return false
		}
	}
	return b.hold(w.memory)
}

// rseqBatch is threads whose rseq is read in one call.
type rseqBatch struct {
	n      int
	bases  [16]uint64
	remote [32]unix.RemoteIovec
	words  [32][8]byte // of each thread tcbhead_t.self, then cpu_id_start and cpu_id
}

func (b *rseqBatch) add(base uint64, offset int32) {
	const self = 16 // in tcbhead_t
	b.bases[b.n] = base
	b.remote[2*b.n] = unix.RemoteIovec{Base: uintptr(base) + self, Len: 8}
	b.remote[2*b.n+1] = unix.RemoteIovec{Base: uintptr(base + uint64(offset)), Len: 8}
	b.n++
}

// hold reads the batch, empties it, and tells whether all is as it must be.
func (b *rseqBatch) hold(m memory) bool {
	n := b.n
	b.n = 0
	if n == 0 {
		return true
	}
	local := unix.Iovec{Base: &b.words[0][0], Len: uint64(16 * n)}
	got, _, errno := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(m.tid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&b.remote[0])), uintptr(2*n), 0)
	if errno != 0 || int(got) != 16*n { // some cannot be read, or the call is forbidden
		for i := range 2 * n {
			if !m.has(b.words[i][:], address.Addr(b.remote[i].Base)) {
				return false
			}
		}
	}
	le := binary.LittleEndian
	for i := range n {
		block, area := b.words[2*i], b.words[2*i+1]
		start, cpu := le.Uint32(area[:]), le.Uint32(area[4:])
		if le.Uint64(block[:]) != b.bases[i] || cpu < rseqNoCPU && (cpu >= rseqManyCPUs || start != cpu) {
			return false
		}
	}
	return true
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
	c, errno := a.rseqConfig()
	if errno == unix.ESRCH {
		return a.lost("reading its rseq registration", errno)
	}
	if errno != 0 { // before Linux 5.13: another moment will find it in a system call
		return fmt.Errorf("pid %d: thread %d may be in a restartable sequence: %w", a.p.Pid(), a.tid, ErrBusy)
	}
	if c.pointer == 0 {
		return nil
	}
	var b [32]byte
	if err := a.memory.read(b[:8], address.Addr(c.pointer+rseqCS)); err != nil {
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
