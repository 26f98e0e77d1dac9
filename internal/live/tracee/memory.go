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
	// pages is pagemap(5) of the same address space, −1 where it cannot be opened.
	pages int
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
	if !p.SameMemory() { // what was planned is for the other, which fd is not
		_ = unix.Close(fd)
		return memory{}, fmt.Errorf("pid %d (%q): now runs another program: %w", p.Pid(), p.name, ErrGone)
	}
	return memory{p: p, fd: fd, pages: p.openPagemap()}, nil
}

func (m memory) close() {
	_ = unix.Close(m.fd)
	if m.pages >= 0 {
		_ = unix.Close(m.pages)
	}
}

// openPagemap opens pagemap, or returns −1.
func (p *Process) openPagemap() int {
	fd := -1
	_ = p.InDir(func(dir int) (err error) {
		fd, err = unix.Openat(dir, "pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	return fd
}

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

// has fills b from addr, and tells whether it could: read without its words.
func (m memory) has(b []byte, addr address.Addr) bool {
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(m.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(addr), 0, 0)
	runtime.KeepAlive(b)
	return errno == 0 && int(n) == len(b)
}

// hasEach tells whether a byte can be read at each address: by process_vm_readv(2), all in
// one call, or where that is forbidden one by one.
func (m memory) hasEach(at []address.Addr) bool {
	const most = 16
	var b [most]byte
	var remote [most]unix.RemoteIovec
	for len(at) > 0 {
		n := min(len(at), most)
		for i := range n {
			remote[i] = unix.RemoteIovec{Base: uintptr(at[i]), Len: 1}
		}
		local := unix.Iovec{Base: &b[0], Len: uint64(n)}
		got, _, errno := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(m.tid), uintptr(unsafe.Pointer(&local)), 1,
			uintptr(unsafe.Pointer(&remote[0])), uintptr(n), 0)
		if errno != 0 || int(got) != n {
			for _, a := range at[:n] {
				if !m.has(b[:1], a) {
					return false
				}
			}
		}
		at = at[n:]
	}
	return true
}

// readUp fills b from addr upwards, as a thread of the process may see it. A page that is
// not in memory reads as zero and is not asked for: it was never written to, or it is kept
// back, by userfaultfd(2) or by who serves a mapped file, and asking would wait for that
// while the process stands still. Swapped pages are read.
func (m memory) readUp(tid int, b []byte, addr address.Addr) {
	for len(b) > 0 {
		var here [readUpPages]bool
		m.inMemory(&here, addr)
		size := min(len(b), readUpPages*pageSize-int(addr%pageSize))
		for i := 0; size > 0; {
			n := likeIt(&here, i)
			step := min(n*pageSize-int(addr%pageSize), size)
			if !here[i] || !m.readPresent(tid, b[:step], addr) {
				m.readPages(b[:step], addr, here[i])
			}
			i, size = i+n, size-step
			addr, b = addr.Add(int64(step)), b[step:]
		}
	}
}

// likeIt counts the pages from i on that are as that one is.
func likeIt(here *[readUpPages]bool, i int) int {
	n := 1
	for i+n < len(here) && here[i+n] == here[i] {
		n++
	}
	return n
}

// readUpPages is how many pages are asked for at once.
const readUpPages = 8

// inMemory tells of the pages from addr's on which have contents: in memory or in swap,
// bits 63 and 62 of an entry of pagemap. Where it cannot be read, all count as having.
func (m memory) inMemory(here *[readUpPages]bool, addr address.Addr) {
	const entry, hasContents = 8, 3 << 62
	var entries [readUpPages * entry]byte
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(m.pages), uintptr(unsafe.Pointer(&entries)),
		uintptr(len(entries)), uintptr(addr/pageSize*entry), 0, 0)
	for i := range here {
		here[i] = errno != 0
		if end := (i + 1) * entry; errno == 0 && end <= int(n) {
			here[i] = binary.LittleEndian.Uint64(entries[end-entry:])&hasContents != 0
		}
	}
}

// readPresent reads with process_vm_readv(2), which costs a third of what a read of
// /proc/PID/mem does, where all pages are there.
func (m memory) readPresent(tid int, b []byte, addr address.Addr) bool {
	local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	remote := unix.RemoteIovec{Base: uintptr(addr), Len: len(b)}
	got, _, errno := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(tid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&remote)), 1, 0)
	runtime.KeepAlive(b)
	return errno == 0 && int(got) == len(b)
}

// readPages is readUp through /proc/PID/mem, of pages that are there or are not.
func (m memory) readPages(b []byte, addr address.Addr, here bool) {
	for len(b) > 0 {
		step := min(pageSize-int(addr%pageSize), len(b))
		if !here || m.read(b[:step], addr) != nil {
			clear(b[:step])
		}
		addr, b = addr.Add(int64(step)), b[step:]
	}
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
