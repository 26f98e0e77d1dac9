package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

const pageSize = 4096

// Range is the half-open interval [Start, End).
type Range struct{ Start, End address.Addr }

// memory is an open /proc/PID/mem: the address space the process had when it
// was opened, so that nothing meant for it reaches a program started by exec.
type memory struct {
	p  *Process
	fd int
	// tid is a thread stopped by this tracer, for the POKEDATA fallback; 0: none.
	tid int
}

// openMemory opens the process's memory for reading and writing.
func (p *Process) openMemory() (memory, error) {
	fd, err := p.OpenMemory(unix.O_RDWR)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return memory{}, p.permission("writing its memory", err)
	}
	if err != nil {
		return memory{}, err
	}
	return memory{p: p, fd: fd}, nil
}

func (m memory) close() { _ = unix.Close(m.fd) }

// spansPages tells whether n bytes at addr lie on more than one page.
func spansPages(addr address.Addr, n int) bool {
	return n > 0 && addr.Page() != addr.Add(int64(n)-1).Page()
}

// read fills b from addr, or says at which address it could not.
func (m memory) read(b []byte, addr address.Addr) error {
	for done := 0; done < len(b); {
		n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(m.fd), uintptr(unsafe.Pointer(&b[done])),
			uintptr(len(b)-done), uintptr(addr)+uintptr(done), 0, 0)
		runtime.KeepAlive(b)
		if errno == 0 && n == 0 { // the address space is gone: the process has ended, or runs another program
			return fmt.Errorf("pid %d: reading %d bytes at %v: %w", m.p.Pid(), len(b)-done, addr.Add(int64(done)), ErrGone)
		}
		if errno != 0 {
			return fmt.Errorf("pid %d: reading %d bytes at %v: %w", m.p.Pid(), len(b)-done, addr.Add(int64(done)), m.p.goneOr(errno))
		}
		done += int(n)
	}
	return nil
}

// readUp reads from addr upwards until b is full or memory ends, as a thread of
// the process may see it: process_vm_readv(2) costs a third of what a read of
// /proc/PID/mem does, and gives no part of a page where a page cannot be read.
func (m memory) readUp(tid int, b []byte, addr address.Addr) int {
	const pages = 8
	var remote [pages]unix.RemoteIovec
	done := 0
	for done < len(b) {
		n, want := 0, 0
		for at := addr.Add(int64(done)); n < pages && done+want < len(b); n++ {
			size := min(pageSize-int(at%pageSize), len(b)-done-want)
			remote[n] = unix.RemoteIovec{Base: uintptr(at), Len: size}
			at, want = at.Add(int64(size)), want+size
		}
		local := unix.Iovec{Base: &b[done], Len: uint64(want)}
		got, _, errno := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(tid), uintptr(unsafe.Pointer(&local)), 1,
			uintptr(unsafe.Pointer(&remote[0])), uintptr(n), 0)
		runtime.KeepAlive(b)
		switch {
		case errno == unix.ENOSYS || errno == unix.EPERM: // CONFIG_CROSS_MEMORY_ATTACH is not set, or a filter on pie
			return done + m.readPages(b[done:], addr.Add(int64(done)))
		case errno != 0:
			return done
		}
		done += int(got)
		if int(got) < want {
			return done
		}
	}
	return done
}

// readPages is readUp through /proc/PID/mem.
func (m memory) readPages(b []byte, addr address.Addr) int {
	done := 0
	for done < len(b) {
		at := addr.Add(int64(done))
		step := min(pageSize-int(at%pageSize), len(b)-done)
		if m.read(b[done:done+step], at) != nil {
			break
		}
		done += step
	}
	return done
}

// write writes b at addr, one page at a time, each in one system call, whose
// copying no signal interrupts. Protection does not matter: the kernel gives a
// private mapping its own copy (FOLL_FORCE). Where proc_mem.force_override
// forbids that, PTRACE_POKEDATA does it word by word.
func (m memory) write(h *hand, addr address.Addr, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), int(pageSize-addr%pageSize))
		if err := m.writeInPage(h, addr, b[:n]); err != nil {
			return err
		}
		addr, b = addr.Add(int64(n)), b[n:]
	}
	return nil
}

func (m memory) writeInPage(h *hand, addr address.Addr, b []byte) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, uintptr(m.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(addr), 0, 0)
	runtime.KeepAlive(b)
	h.step("write")
	if errno == 0 && int(n) == len(b) {
		return nil
	}
	if errno == 0 && n == 0 {
		return fmt.Errorf("pid %d: writing %d bytes at %v: %w", m.p.Pid(), len(b), addr, ErrGone)
	}
	if m.tid != 0 && (errno == unix.EIO || errno == unix.EACCES || errno == unix.EPERM) {
		return m.poke(h, addr, b)
	}
	return fmt.Errorf("pid %d: writing %d bytes at %v: %d written: %w", m.p.Pid(), len(b), addr, int(n), m.p.goneOr(errno))
}

// poke writes b as 8-byte words. The last word overlaps the one before, or
// what follows b on its page is read and written back: a word is never put
// across the end of the page.
func (m memory) poke(h *hand, addr address.Addr, b []byte) error {
	for off := 0; off < len(b); off += 8 {
		at := addr.Add(int64(off))
		if last := at.Page() + pageSize - 8; at > last {
			at = last
		}
		var word [8]byte
		if err := m.read(word[:], at); err != nil {
			return err
		}
		skip := int(addr.Add(int64(off)) - at)
		copy(word[skip:], b[off:])
		if errno := h.pokeData(m.tid, uintptr(at), uintptr(binary.LittleEndian.Uint64(word[:]))); errno != 0 {
			return fmt.Errorf("pid %d: writing 8 bytes at %v: %w", m.p.Pid(), at, m.p.goneOr(errno))
		}
	}
	return nil
}
