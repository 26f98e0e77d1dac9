package tracee

import (
	"sync"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Host is what need not be found out again for each process: which cgroup hierarchies
// there are, and where in program files the gadgets lie. A Tracer has one for the
// processes that it opens. It is safe for concurrent use.
type Host struct {
	cgroups mountList
	gadgets gadgetList
}

// Open is the function Open, for who opens many processes.
func (h *Host) Open(pid int) (*Process, error) { return openOn(pid, h) }

// mountList is pie's own cgroup hierarchies: to read a long list of mounts takes time.
type mountList struct {
	mu   sync.Mutex
	read time.Time
	list []cgroupMount
	err  error
}

// mountsFor is how long a list of mounts is good for.
const mountsFor = time.Minute

func (l *mountList) get() ([]cgroupMount, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.read.IsZero() || time.Since(l.read) > mountsFor {
		l.list, l.err = cgroupMounts()
		l.read = time.Now()
	}
	return l.list, l.err
}

// gadgetList is where gadgets were found, as offsets into files. What it says is a guess:
// another file may have the inode by now. So the bytes are looked at before they are
// used (checkGadgets).
type gadgetList struct {
	mu    sync.Mutex
	files map[proc.FileID]gadgetOffsets
}

// gadgetOffsets are offsets into one file, 0 for what was not found in it: the ELF
// header lies there.
type gadgetOffsets struct{ syscallRet, popRaxRet, sigreturn address.Off }

// maxGadgetFiles bounds a list.
const maxGadgetFiles = 256

// in returns the gadgets that the mappings have by the list.
func (l *gadgetList) in(maps []proc.Mapping) (g gadgets) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range maps {
		if o, ok := l.files[m.File]; ok && isPrivateCode(m) {
			locate(&g.syscallRet, o.syscallRet, m)
			locate(&g.popRaxRet, o.popRaxRet, m)
			locate(&g.sigreturn, o.sigreturn, m)
		}
	}
	return g
}

// locate sets at to where offset o of the mapping's file is, if it is in the mapping.
func locate(at *address.Addr, o address.Off, m proc.Mapping) {
	if o != 0 && *at == 0 && o >= m.Offset && uint64(o-m.Offset) < m.Size() {
		*at = m.Start.Add(int64(o - m.Offset))
	}
}

// note adds gadgets that were found.
func (l *gadgetList) note(maps []proc.Mapping, g gadgets) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files == nil || len(l.files) >= maxGadgetFiles {
		l.files = map[proc.FileID]gadgetOffsets{}
	}
	for _, m := range maps {
		o := l.files[m.File]
		noteOffset(&o.syscallRet, g.syscallRet, m)
		noteOffset(&o.popRaxRet, g.popRaxRet, m)
		noteOffset(&o.sigreturn, g.sigreturn, m)
		if o != (gadgetOffsets{}) {
			l.files[m.File] = o
		}
	}
}

// noteOffset sets o to where at is in the mapping's file, if it is in the mapping.
func noteOffset(o *address.Off, at address.Addr, m proc.Mapping) {
	if m.Contains(at) {
		*o = m.Offset + address.Off(at-m.Start)
	}
}

func (l *gadgetList) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.files)
}
