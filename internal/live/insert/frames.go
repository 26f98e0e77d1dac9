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
// would return into the middle of the patch.
//
// A frame is recognised by two fields of its struct sigcontext (asm/sigcontext.h):
// a rip that points into the bytes, and behind eflags the code segment of 64-bit
// user code. What merely looks so is taken for one: rather wait for nothing than
// be wrong.
type frames struct {
	buf []byte // frameReach bytes
}

const (
	// frameReach is how far above the stack pointer a signal frame is looked
	// for, in bytes: an AVX-512 frame takes 3.5 KiB, the handler's own the rest.
	frameReach = 16 << 10
	// manyThreads is from how many threads on only the stacks of those are read
	// that block a signal which the process catches, as a thread in a handler
	// does. Reading 1000 stacks would double the pause. A handler with SA_NODEFER
	// escapes this.
	manyThreads = 32
	// fewThreads is up to how many stacks are read without asking whether the process
	// catches any signal, which takes as long.
	fewThreads = 2
	// frameCS is where cs is in a struct sigcontext, from rip on.
	frameCS = 16
	userCS  = 0x33
)

func newFrames() frames { return frames{buf: make([]byte, frameReach)} }

// anyIn reports whether a thread that was not shown before is in one of the ranges, or a
// signal frame of it may return there.
func (f *frames) anyIn(w *tracee.World, ranges []arena.Range) bool {
	threads := w.Threads()
	for i := range threads {
		if !threads[i].Shown && inside(ranges, threads[i].PC) {
			return true
		}
	}
	return f.anyReturns(w, ranges)
}

// anyReturns reports whether a signal frame of some thread that was not shown before may
// return into one of the ranges.
func (f *frames) anyReturns(w *tracee.World, ranges []arena.Range) bool {
	threads := w.Threads()
	n := 0
	for i := range threads {
		if !threads[i].Shown {
			n++
		}
	}
	if len(ranges) == 0 || n == 0 {
		return false
	}
	caught := ^uint64(0)
	if n > fewThreads {
		caught = w.Caught()
	}
	if caught == 0 {
		return false
	}
	for i := range threads {
		if threads[i].Shown {
			continue
		}
		if n > manyThreads {
			if mask, ok := w.Blocked(threads[i].Tid); ok && mask&caught == 0 {
				continue
			}
		}
		if f.returns(w, threads[i].SP, ranges) {
			return true
		}
	}
	return false
}

// returns scans one stack for a frame that returns into one of the ranges.
func (f *frames) returns(w *tracee.World, sp address.Addr, ranges []arena.Range) bool {
	b := f.buf
	w.ReadUp(b, (sp+7)&^7)
	low, high := ranges[0].Start, ranges[0].End
	for _, r := range ranges[1:] {
		low, high = min(low, r.Start), max(high, r.End)
	}
	for off := 0; off+8 <= len(b); off += 8 {
		at := address.Addr(binary.LittleEndian.Uint64(b[off:]))
		if at < low || at >= high || !inside(ranges, at) {
			continue
		}
		cs := off + frameCS
		if cs+2 > len(b) || binary.LittleEndian.Uint16(b[cs:]) == userCS {
			return true
		}
	}
	return false
}

func inside(ranges []arena.Range, a address.Addr) bool {
	for i := range ranges {
		if ranges[i].Contains(a) {
			return true
		}
	}
	return false
}

// interiors are the bytes of the edits that a thread may have been interrupted at and
// must not return to afterwards: no instruction starts there, or it is in a loop.
func interiors(edits []edit) []arena.Range {
	var out []arena.Range
	for i := range edits {
		e := &edits[i]
		if _, loop := e.move(e.at); loop {
			out = append(out, arena.Range{Start: e.at, End: e.end()})
		} else if len(e.moves) > 0 {
			out = append(out, arena.Range{Start: e.at + 1, End: e.end()})
		}
	}
	return out
}
