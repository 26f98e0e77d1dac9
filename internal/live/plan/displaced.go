package plan

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Every guard has its own copy of what the site's jump displaced: Before ahead of
// it, and behind its link Again and After with the jump back. So each is whole,
// whichever of a site's guards stands first or last.

// afterRun is what runs when a call has passed.
func (s *Site) afterRun() []amd64.Inst {
	return append(append([]amd64.Inst(nil), s.Again...), s.After...)
}

// writeBefore writes Before for at; it falls into what follows.
func (s *Site) writeBefore(at address.Addr) ([]byte, error) {
	moved, err := relocateRun(s.Before, at)
	return moved.Code, err
}

// writeAfter writes Again, After and the jump back for at.
func (s *Site) writeAfter(at address.Addr) ([]byte, error) {
	moved, err := relocateRun(s.afterRun(), at)
	if s.Faults && err == nil {
		moved.Code, err = s.writeNamed(at)
	}
	if err != nil || !moved.Falls {
		return moved.Code, err
	}
	back, err := jit.Jump(at.Add(int64(len(moved.Code))), s.Resume, jumpLen)
	return append(moved.Code, back...), err
}

// reaches refuses a site whose displaced instructions cannot run at at.
func (s *Site) reaches(at address.Addr) error {
	for _, write := range []jit.Displaced{s.writeBefore, s.writeAfter} {
		_, err := write(at)
		if errors.Is(err, amd64.ErrReach) {
			return outOfReach(*s, err)
		} else if err != nil {
			return &Refusal{Code: SiteUndecodable, Err: err, Msg: fmt.Sprintf("%s: %v", s.Function, err)}
		}
	}
	return nil
}

// moves tells where threads go on that are inside the overwritten bytes, in the
// guard's copies of them. One at the site's start needs no move, unless it may be there in
// the middle of its call.
func (s *Site) moves(at address.Addr, c *jit.Code) ([]Move, error) {
	var out []Move
	for _, r := range []struct {
		run []amd64.Inst
		at  address.Addr
	}{{s.Before, at}, {s.afterRun(), at.Add(int64(c.Link + jit.LinkSize))}} {
		moved, err := relocateRun(r.run, r.at)
		if err != nil {
			return nil, outOfReach(*s, err)
		}
		for _, step := range moved.Steps {
			from := runStart(r.run, 0).Add(int64(step.Old))
			if (from > s.Start || s.Loop && from == s.Start) && from < s.vacated() {
				out = append(out, Move{From: from, To: r.at.Add(int64(step.New))})
			}
		}
	}
	return out, nil
}

func outOfReach(s Site, err error) error {
	return &Refusal{Code: SiteRange, Err: err, Msg: fmt.Sprintf("%s at %v: %v", s.Function, s.Entry, err)}
}
