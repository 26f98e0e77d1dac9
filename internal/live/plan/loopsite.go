package plan

import (
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// A function that is a loop from its first bytes on returns to the bytes to be replaced
// once a round. There the whole loop moves along: in the guard's copy it returns to itself,
// and the jump is met once a call. Five bytes are replaced as everywhere, in one write; what
// stays behind them of the loop is reached no more. A thread that is in the loop when the
// guard goes in would come by the jump in the middle of its call: so all of the loop, the
// first byte included, must be without threads then, or they are moved into the copy.

// maxLoop bounds a loop that moves along, in bytes.
const maxLoop = 256

// siteAround makes s, whose bytes are returned to, a site whose loop moves along.
func (c *chooser) siteAround(s *Site) error {
	end, err := c.loopEnd(s)
	if err != nil {
		return err
	}
	run, at := s.After[:0:0], s.Start
	for at < end {
		i, err := amd64.Decode(c.f.code()[at-c.f.Entry:], at)
		if err != nil {
			return refuse(SiteUndecodable, c.f, at, err.Error())
		}
		if i.Flow == amd64.FlowCall || i.Flow == amd64.FlowIndirectCall {
			return refuse(SiteBranch, c.f, at, "the loop that returns to the bytes to be replaced makes a call, which would return into what is left of it")
		}
		if len(run) > 0 && !run[len(run)-1].Falls() && !c.branchesTo(at) {
			return refuse(SiteBranch, c.f, at, "what leads to this place in the loop that returns to the bytes to be replaced is not known: it may be where an exception lands")
		}
		run = append(run, i)
		at = i.Next()
	}
	if at != end {
		return refuse(SiteUndecodable, c.f, at, "the loop does not end with an instruction")
	}
	s.After, s.Loop = run, true
	return c.finish(s)
}

// loopEnd returns where the code ends that must move along, so that nothing behind it
// branches into it.
func (c *chooser) loopEnd(s *Site) (address.Addr, error) {
	if c.f.Go || c.f.Size == 0 {
		return 0, refuse(SiteBranch, c.f, s.Start, "a loop returns to the bytes to be replaced")
	}
	for off := 0; off < len(c.f.code()); {
		i, err := amd64.Decode(c.f.code()[off:], c.f.Entry.Add(int64(off)))
		if err != nil {
			return 0, refuse(SiteBranch, c.f, s.Start, "a loop returns to the bytes to be replaced, and not all of the function can be read")
		}
		if i.Flow == amd64.FlowIndirectJump {
			return 0, refuse(SiteBranch, c.f, i.Addr, "a jump through a table may lead into the loop that returns to the bytes to be replaced")
		}
		off += i.Len
	}
	end := s.After[len(s.After)-1].Next()
	for grown := true; grown; {
		grown = false
		for _, b := range c.branches {
			if b.to < s.Start && b.to >= c.f.Entry {
				return 0, refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("the branch at %v returns to %v, ahead of the bytes to be replaced", b.from.Addr, b.to))
			}
			if b.to >= s.Start && b.to < end && b.from.Next() > end {
				end, grown = b.from.Next(), true
			}
		}
		if end > s.Start.Add(maxLoop) {
			return 0, refuse(SiteBranch, c.f, s.Start, fmt.Sprintf("a loop of more than %d bytes returns to the bytes to be replaced", maxLoop))
		}
	}
	return end, nil
}

// branchesTo reports whether a branch of the function leads to at.
func (c *chooser) branchesTo(at address.Addr) bool {
	return slices.ContainsFunc(c.branches, func(b branch) bool { return b.to == at })
}
