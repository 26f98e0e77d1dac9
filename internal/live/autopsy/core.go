package autopsy

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// ErrNotCore says that a file is no core file of an x86-64 Linux process.
var ErrNotCore = errors.New("not a core file of an x86-64 Linux process")

// Bounds of a core file's tables.
const (
	maxHeaders = 1 << 20
	maxNotes   = 64 << 20 // bytes
	maxThreads = 1 << 16
)

// Core is a core file, read like a process: it implements observe.Process.
type Core struct {
	file    io.ReaderAt
	name    string
	pid     int
	loads   []load
	maps    []proc.Mapping
	threads []Thread
}

// load is a PT_LOAD segment: memory from start on, of which the file has size bytes.
type load struct {
	start, end address.Addr
	off, size  uint64
	perms      proc.Perms
}

// Thread is one thread as it was when the core was written.
type Thread struct {
	Tid    int
	PC, SP address.Addr
	Signal Signal // what it ended by, of the thread that crashed
}

// Read reads the headers and notes of a core file.
func Read(file io.ReaderAt) (*Core, error) {
	c := &Core{file: file}
	notes, err := c.headers()
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		if err := c.readNotes(n); err != nil {
			return nil, err
		}
	}
	if len(c.threads) == 0 {
		return nil, fmt.Errorf("no thread in it: %w", ErrNotCore)
	}
	c.layMaps()
	return c, nil
}

// Pid returns the process's id in its own time.
func (c *Core) Pid() int { return c.pid }

// Name returns the command name: chosen by the process.
func (c *Core) Name() string { return c.name }

// Maps returns the mappings, as far as a core tells: a shared mapping is known by
// the file the kernel makes for it.
func (c *Core) Maps() ([]proc.Mapping, error) { return c.maps, nil }

// Threads returns the threads; the first one is that which crashed.
func (c *Core) Threads() []Thread { return c.threads }

// ReadAt fills b from the memory at a. Memory that was not dumped is an error.
func (c *Core) ReadAt(b []byte, a address.Addr) (int, error) {
	done := 0
	for done < len(b) {
		at := a.Add(int64(done))
		l := c.loadAt(at)
		if l == nil || uint64(at-l.start) >= l.size {
			return done, fmt.Errorf("core of pid %d: %d bytes at %v are not in it: %w", c.pid, len(b)-done, at, unix.EFAULT)
		}
		n := min(uint64(len(b)-done), l.size-uint64(at-l.start))
		got, err := c.file.ReadAt(b[done:done+int(n)], int64(l.off+uint64(at-l.start)))
		done += got
		if got < int(n) {
			return done, fmt.Errorf("core of pid %d: cut short at %v: %w", c.pid, at, err)
		}
	}
	return done, nil
}

func (c *Core) loadAt(a address.Addr) *load {
	i := sort.Search(len(c.loads), func(i int) bool { return c.loads[i].start > a }) - 1
	if i < 0 || a >= c.loads[i].end {
		return nil
	}
	return &c.loads[i]
}

var order = binary.LittleEndian

// headers reads the ELF header and the program headers (elf(5)), and returns where
// the notes are.
func (c *Core) headers() (notes []load, err error) {
	const ehdrSize, phdrSize, typeCore, machineX86_64 = 64, 56, 4, 62
	var h [ehdrSize]byte
	if _, err := c.file.ReadAt(h[:], 0); err != nil {
		return nil, fmt.Errorf("its header: %w", ErrNotCore)
	}
	if string(h[:4]) == "\x28\xb5\x2f\xfd" || string(h[:4]) == "\x04\x22\x4d\x18" || string(h[:2]) == "\x1f\x8b" {
		return nil, fmt.Errorf("it is compressed: unpack it first, as coredumpctl dump does: %w", ErrNotCore)
	}
	if string(h[:6]) != "\x7fELF\x02\x01" || order.Uint16(h[16:]) != typeCore || order.Uint16(h[18:]) != machineX86_64 {
		return nil, ErrNotCore
	}
	count := uint32(order.Uint16(h[56:]))
	if count == 0xffff { // PN_XNUM: the number is in section header 0
		var s [64]byte
		if _, err := c.file.ReadAt(s[:], int64(order.Uint64(h[40:])&(1<<62-1))); err != nil {
			return nil, fmt.Errorf("its section header: %w", ErrNotCore)
		}
		count = order.Uint32(s[44:])
	}
	if count > maxHeaders || order.Uint16(h[54:]) != phdrSize {
		return nil, fmt.Errorf("%d program headers of %d bytes: %w", count, order.Uint16(h[54:]), ErrNotCore)
	}
	at := int64(order.Uint64(h[32:]) & (1<<62 - 1))
	for i := range int64(count) {
		var p [phdrSize]byte
		if _, err := c.file.ReadAt(p[:], at+i*phdrSize); err != nil {
			return nil, fmt.Errorf("its program headers: %w", ErrNotCore)
		}
		l, ok := parseLoad(p[:])
		if !ok {
			continue
		}
		switch order.Uint32(p[:]) {
		case 1: // PT_LOAD
			c.loads = append(c.loads, l)
		case 4: // PT_NOTE
			notes = append(notes, l)
		}
	}
	return notes, nil
}

// parseLoad reads a program header; not ok when its numbers overflow.
func parseLoad(p []byte) (load, bool) {
	l := load{off: order.Uint64(p[8:]), start: address.Addr(order.Uint64(p[16:])), size: order.Uint64(p[32:])}
	memory := order.Uint64(p[40:])
	l.end = l.start + address.Addr(memory)
	flags := order.Uint32(p[4:])
	for _, f := range [...]struct {
		bit  uint32
		perm proc.Perms
	}{{1, proc.Exec}, {2, proc.Write}, {4, proc.Read}} {
		if flags&f.bit != 0 {
			l.perms |= f.perm
		}
	}
	return l, l.end >= l.start && l.off < 1<<62 && l.size < 1<<62
}

// layMaps turns the segments into mappings. Files are those of NT_FILE, which
// readNotes has put into maps.
func (c *Core) layMaps() {
	slices.SortStableFunc(c.loads, func(a, b load) int { return cmp.Compare(a.start, b.start) })
	files := map[address.Addr]proc.Mapping{}
	for _, f := range c.maps {
		files[f.Start] = f
	}
	c.maps = nil
	sp := c.mainStack()
	for _, l := range c.loads {
		m := proc.Mapping{Start: l.start, End: l.end, Perms: l.perms}
		if f, ok := files[l.start]; ok && f.End == l.end {
			m.Path, m.Offset, m.File = f.Path, f.Offset, f.File
		}
		if strings.HasPrefix(m.Path, "/dev/zero") {
			m.Perms |= proc.Shared // what mmap(MAP_SHARED|MAP_ANONYMOUS) maps
		}
		if l.start <= sp && sp < l.end && l.perms&proc.Exec == 0 {
			m.Path = "[stack]"
		}
		c.maps = append(c.maps, m)
	}
}

// mainStack is the stack pointer of the main thread, or of the only one there is.
func (c *Core) mainStack() address.Addr {
	for _, t := range c.threads {
		if t.Tid == c.pid {
			return t.SP
		}
	}
	return c.threads[0].SP
}
