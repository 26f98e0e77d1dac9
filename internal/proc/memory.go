package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// A page that is in memory is read without waiting. One that is not may have to come from
// a file system that answers late, or never. So pagemap is asked first. Only where a page
// is not there does a read have a deadline, which costs another thread; and where a program
// would be asked, as the file system of a mapped file, it is not made at all, since not
// even kill ends that wait. A page that userfaultfd(2) keeps is no such: the kernel lets no
// reader of /proc/PID/mem wait for it, and says EIO.
//
// A page that a hostile process takes away between the question and the read may keep
// the reader all the same.

// ErrSlowMemory says that a page of a process did not come within FileTimeout.
var ErrSlowMemory = errors.New("the file system of a mapped file does not answer")

// memory is /proc/PID/mem and pagemap, opened once, if at all.
type memory struct {
	sync.Mutex
	file   *os.File
	pages  *os.File // nil where it cannot be opened
	err    error    // why file could not be opened
	closed bool

	// slow: a read did not come back. No other waits for a page any more.
	slow   atomic.Bool
	served served
}

func (m *memory) close() {
	m.Lock()
	defer m.Unlock()
	m.closed = true
	for _, f := range []*os.File{m.file, m.pages} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// open opens /proc/PID/mem and pagemap, the first time.
func (m *memory) open(p *Process) (mem, pages *os.File, err error) {
	m.Lock()
	defer m.Unlock()
	if m.file == nil && m.err == nil && !m.closed {
		fd, err := p.OpenMemory(unix.O_RDONLY)
		if m.err = err; err == nil {
			m.file = os.NewFile(uintptr(fd), filepath.Join(p.dir.Name(), "mem"))
			m.pages, _ = p.openHeld("pagemap", unix.O_RDONLY) // without, every page counts as not there
		}
	}
	if m.closed {
		return nil, nil, os.ErrClosed
	}
	return m.file, m.pages, m.err
}

// ReadAt fills b from the memory at a. It reads through page protections, as
// a debugger does. It returns how much was read before the first unmapped
// page, with an error when that is less than len(b): ErrSlowMemory, *UntrustedFS
// for what may not come at all.
func (p *Process) ReadAt(b []byte, a address.Addr) (int, error) {
	n, err := p.readMemory(b, a)
	if err != nil && n < len(b) {
		if errors.Is(err, io.EOF) { // the mm is gone
			err = ErrGone
		}
		return n, fmt.Errorf("pid %d: reading %d bytes at %v: %w", p.pid, len(b), a, p.goneOr(err))
	}
	return n, nil
}

func (p *Process) readMemory(b []byte, a address.Addr) (int, error) {
	mem, pages, err := p.mem.open(p)
	switch {
	case err != nil:
		return 0, err
	case int64(a) < 0: // kernel half; pread takes it for a negative offset
		return 0, unix.EFAULT
	case pages != nil && present(pages, a, len(b)):
		return mem.ReadAt(b, int64(a))
	}
	return p.awaitMemory(mem, b, a)
}

// SameMemory tells whether the process still has the memory that was read first, if any
// was: by exec(2) it gets another, whatever program that starts.
func (p *Process) SameMemory() bool {
	p.mem.Lock()
	defer p.mem.Unlock()
	if p.mem.file == nil || p.mem.closed {
		return true
	}
	_, err := p.mem.file.ReadAt(make([]byte, 1), 0) // EIO where nothing is mapped
	return !errors.Is(err, io.EOF)
}

const pageSize = 4096

// present tells whether every page of n bytes at a is in memory, by bit 63 of its entry
// in pagemap (Documentation/admin-guide/mm/pagemap.rst).
func present(pagemap *os.File, a address.Addr, n int) bool {
	const entry, inMemory = 8, 1 << 63
	var entries [64 * entry]byte
	first, last := uint64(a)/pageSize, (uint64(a)+uint64(max(n, 1))-1)/pageSize
	for first <= last {
		b := entries[:min(uint64(len(entries)), (last-first+1)*entry)]
		got, err := unix.Pread(int(pagemap.Fd()), b, int64(first*entry))
		runtime.KeepAlive(pagemap)
		if err != nil || got < entry {
			return false
		}
		for b = b[:got]; len(b) >= entry; b = b[entry:] {
			if binary.LittleEndian.Uint64(b)&inMemory == 0 {
				return false
			}
			first++
		}
	}
	return true
}

// awaitMemory reads what may have to be waited for.
func (p *Process) awaitMemory(mem *os.File, b []byte, a address.Addr) (int, error) {
	if p.mem.slow.Load() {
		return 0, ErrSlowMemory
	}
	if err := p.mem.served.check(p, a, len(b)); err != nil {
		return 0, err
	}
	type result struct {
		b   []byte
		err error
	}
	r, err := within(p.timeout, func() result {
		own := make([]byte, len(b)) // the kernel may still write to it after the deadline
		n, err := mem.ReadAt(own, int64(a))
		return result{own[:n], err}
	}, nil)
	if err != nil {
		p.mem.slow.Store(true)
		return 0, fmt.Errorf("%w within %v", ErrSlowMemory, p.timeout)
	}
	return copy(b, r.b), r.err
}

// served says which mappings are of files that a program may serve. What it has read is
// used again for a moment: code is read in chunks.
type served struct {
	mu    sync.Mutex
	until time.Time
	maps  []Mapping
	found map[Mapping]error
	err   error
}

// How long that is: so long, or so many times what reading it took, with 65,000 mappings.
const (
	servedFor   = 100 * time.Millisecond
	servedTimes = 10
)

// check returns *UntrustedFS when a byte of n at a is of such a file.
func (s *served) check(p *Process, a address.Addr, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begin := time.Now(); begin.After(s.until) {
		s.maps, s.err = p.Maps()
		s.until, s.found = time.Now().Add(max(servedFor, servedTimes*time.Since(begin))), map[Mapping]error{}
	}
	if s.err != nil {
		return s.err
	}
	end := a + address.Addr(n)
	for _, m := range s.maps {
		if m.End <= a || m.Start >= end || m.File == (FileID{}) {
			continue
		}
		err, known := s.found[m]
		if !known {
			err = p.checkMapped(m)
			s.found[m] = err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkMapped is checkFS for the file of a mapping. Who may not ask, an ordinary user,
// takes the risk with processes of his own.
func (p *Process) checkMapped(m Mapping) error {
	err := p.InDir(func(dir int) error {
		fd, err := unix.Openat(dir, m.link(), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = p.checkFS(fd)
		return err
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil
	}
	return err
}
