package insert

import (
	"encoding/binary"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// frames looks for signal frames that return into bytes to be replaced. A
// thread that a signal interrupted inside a site, and that is in its handler
// now, has the old pc in the frame on its stack, above its stack pointer; it
// would return into the middle of the patch. Every aligned word there that
// points into a site counts as one: rather wait for nothing than be wrong.
type frames struct {
	needed bool // the process catches some signal
	buf    []byte
}

// frameReach is how far above the stack pointer a signal frame is looked for,
// in bytes: an AVX-512 frame takes 3.5 KiB, the handler's own the rest.
const frameReach = 16 << 10

func newFrames(p *tracee.Process) (frames, error) {
	st, err := p.Status()
	if err != nil {
		return frames{}, err
	}
	return frames{needed: st.SigCgt != 0, buf: make([]byte, pageSize)}, nil
}

// check returns ErrBusySite when a frame may return into an edit's bytes behind
// their start.
func (f *frames) check(w *tracee.World, edits []edit) error {
	if !f.needed || !anyInside(edits) {
		return nil
	}
	threads := w.Threads()
	for i := range threads {
		for j := range edits {
			if f.returns(w, threads[i].SP, arena.Range{Start: edits[j].at + 1, End: edits[j].end()}) {
				return ErrBusySite
			}
		}
	}
	return nil
}

// anyInside reports whether some edit has an instruction behind its start that
// a thread could have been interrupted at.
func anyInside(edits []edit) bool {
	for i := range edits {
		for _, m := range edits[i].moves {
			if m.From != edits[i].at {
				return true
			}
		}
	}
	return false
}

// anyIn reports whether a thread is in one of the ranges, or a signal frame may
// return there.
func (f *frames) anyIn(w *tracee.World, ranges []arena.Range) bool {
	threads := w.Threads()
	for _, r := range ranges {
		for i := range threads {
			if r.Contains(threads[i].PC) || f.needed && f.returns(w, threads[i].SP, r) {
				return true
			}
		}
	}
	return false
}

// returns scans the words of one stack, page by page up to the mapping's end,
// for a pointer into r.
func (f *frames) returns(w *tracee.World, sp address.Addr, r arena.Range) bool {
	at := (sp + 7) &^ 7
	end := at.Add(frameReach)
	for at < end {
		n := min(pageSize-uint64(at)%pageSize, uint64(end-at))
		b := f.buf[:n]
		if w.Read(b, at) != nil {
			return false
		}
		for off := 0; off+8 <= len(b); off += 8 {
			if r.Contains(address.Addr(binary.LittleEndian.Uint64(b[off:]))) {
				return true
			}
		}
		at = at.Add(int64(n))
	}
	return false
}
