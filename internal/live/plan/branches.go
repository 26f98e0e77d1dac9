package plan

import (
	"encoding/binary"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// branch is a jump or conditional jump of the function with a known target
// inside the function. Calls are not: they come back, and a call of the entry
// is a call.
type branch struct {
	from amd64.Inst
	to   address.Addr
}

// branches finds the function's own branches by a linear sweep; what does not
// decode (tables between code) is skipped byte by byte, which finds branches
// that are none rather than missing one.
func branches(f *Function) []branch {
	var all []branch
	code := f.code()
	for off := 0; off < len(code); {
		i, err := amd64.Decode(code[off:], f.Entry.Add(int64(off)))
		if err != nil {
			off++
			continue
		}
		if (i.Flow == amd64.FlowJump || i.Flow == amd64.FlowCond) && i.Target >= f.Entry && i.Target < f.end() {
			all = append(all, branch{i, i.Target})
		}
		off += i.Len
	}
	return all
}

// checkBranches refuses a site that something enters behind its start, or
// that a loop returns to.
func (c *chooser) checkBranches(s *Site) error {
	for _, b := range c.branches {
		if err := c.checkBranch(s, b); err != nil {
			return err
		}
	}
	for _, a := range c.f.Inner {
		if a > s.Entry && a < s.vacated() {
			return refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("another symbol begins at %v, inside the bytes to be replaced", a))
		}
	}
	for _, b := range c.neighbours {
		if b.to < s.vacated() && s.begins(b.to) {
			return refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("the branch at %v, outside the function, enters it at %v", b.from.Addr, b.to))
		}
	}
	return c.checkSegment(s)
}

func (c *chooser) checkBranch(s *Site, b branch) error {
	within := b.from.Addr >= s.Start && b.from.Addr < s.Resume
	switch {
	case b.to >= s.vacated():
		return nil // the bytes there stay
	case within && b.to >= s.Start:
		return nil // moved along, and retargeted
	case b.to > s.Start:
		return refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("the branch at %v enters the bytes to be replaced at %v", b.from.Addr, b.to))
	case b.to == s.Entry && (len(s.Before) > 0 || c.reentry(b)):
		// Go: only the way back from morestack goes to the stack check.
		return nil
	}
	return refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("the branch at %v returns to %v, so that a guard would run more than once a call", b.from.Addr, b.to))
}

// reentry reports a jump back to the entry that is a call of its own: a tail
// call to itself. The function's first instructions take stack, so a loop
// would take more every time round.
func (c *chooser) reentry(b branch) bool {
	if b.from.Flow != amd64.FlowJump {
		return false
	}
	for at := c.f.Entry; at < c.f.end(); {
		i, err := amd64.Decode(c.f.Text[at-c.f.Entry:], at)
		if err != nil {
			return false
		}
		if e := i.Effects(); e.Known && e.SPDelta < 0 {
			return true
		}
		if i.Flow != amd64.FlowNext {
			return false
		}
		at = i.Next()
	}
	return false
}

// neighbourhood is how far before and behind a function short branches into it
// are looked for: a rel8 reaches 128 bytes, and a sweep that begins in the
// middle of an instruction needs some to fall into step.
const neighbourhood = 512

// neighbours finds the short branches around the function that lead into it:
// assembly often shares a tail, or an entry, in that way.
func neighbours(f *Function) []branch {
	off := int64(f.Entry - f.SegmentAt)
	if f.Entry < f.SegmentAt || off > int64(len(f.Segment)) {
		return nil
	}
	end := min(off+int64(len(f.code())), int64(len(f.Segment)))
	before := max(off-neighbourhood, 0) &^ 15
	behind := min(end+neighbourhood, int64(len(f.Segment)))
	return append(f.shortBranches(before, off), f.shortBranches(end, behind)...)
}

// shortBranches sweeps over a part of the segment.
func (f *Function) shortBranches(from, to int64) []branch {
	var all []branch
	for off := from; off < to; {
		i, err := amd64.Decode(f.Segment[off:to], f.SegmentAt.Add(off))
		if err != nil {
			off++
			continue
		}
		if (i.Flow == amd64.FlowJump || i.Flow == amd64.FlowCond) && i.Target > f.Entry && i.Target < f.end() {
			all = append(all, branch{i, i.Target})
		}
		off += int64(i.Len)
	}
	return all
}

// checkSegment looks for rel32 branches anywhere in the segment that enter the
// replaced or kept bytes behind the entry. Every byte is taken for the start of
// a displacement, so data can only cause a refusal.
func (c *chooser) checkSegment(s *Site) error {
	text, lo := c.f.Segment, s.Entry+1
	width := uint32(s.vacated() - lo)
	base := uint32(c.f.SegmentAt - lo) // modulo 2^32, as displacements are
	for n := 1; n+4 <= len(text); n++ {
		// A displacement at n is from n+4.
		if binary.LittleEndian.Uint32(text[n:])+uint32(n+4)+base >= width || !endsBranch(text[:n]) {
			continue
		}
		from := c.f.SegmentAt.Add(int64(n))
		to := from.Add(4 + int64(int32(binary.LittleEndian.Uint32(text[n:]))))
		if to < lo || to >= lo.Add(int64(width)) {
			continue
		}
		if from > s.Entry && from < c.f.end() || !s.begins(to) {
			continue // the function's own branches are decoded and judged elsewhere
		}
		return refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("a branch at %v, outside the function, enters it at %v", from, to))
	}
	return nil
}

// begins reports whether an instruction begins at a. Text and tables among code
// look like branches now and then; those of other code go to instructions.
func (s *Site) begins(a address.Addr) bool {
	for _, run := range [][]amd64.Inst{s.Kept, s.Before, s.After} {
		for _, i := range run {
			if i.Addr == a {
				return true
			}
		}
	}
	return false
}

// endsBranch reports whether code may end in the opcode of a rel32 branch:
// call, jmp, jcc.
func endsBranch(code []byte) bool {
	n := len(code)
	switch op := code[n-1]; {
	case op == 0xe8, op == 0xe9:
		return true
	case op >= 0x80 && op <= 0x8f:
		return n > 1 && code[n-2] == 0x0f
	}
	return false
}
