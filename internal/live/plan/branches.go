package plan

import (
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

// checkSegment refuses a site that rel32 branches anywhere in the segment, but for the
// function's own, enter behind the entry: those are decoded and judged elsewhere.
func (c *chooser) checkSegment(s *Site) error {
	lo := s.Entry + 1
	r := searched{lo: int64(lo - c.f.SegmentAt), width: int64(s.vacated() - lo), end: int64(c.f.end() - c.f.SegmentAt)}
	found := c.f.Entrances.search(c.f.Segment, r)
	for _, e := range found {
		if from, to := c.f.SegmentAt.Add(e.from), c.f.SegmentAt.Add(e.to); s.begins(to) {
			return refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("a branch at %v, outside the function, enters it at %v", from, to))
		}
	}
	if len(found) == maxEntrances {
		return refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("%d places outside the function look like branches into it: more are not judged", maxEntrances))
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
