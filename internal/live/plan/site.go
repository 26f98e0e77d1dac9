package plan

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// jumpLen is the length of jmp rel32, in bytes.
const jumpLen = 5

// maxKept is the most instructions that stay in front of a site: the first
// should, more are kept only to find a site where none begins earlier.
const maxKept = 6

// entryWarning is said of a site that leaves no instruction of a function in place.
func entryWarning(function string) string {
	return "the site begins at the first instruction of " + function + ": a kernel uprobe put on it later (bpftrace, perf) would crash the process"
}

// System V registers (psABI 3.2.3).
var (
	sysvArguments   = amd64.Set(amd64.RDI, amd64.RSI, amd64.RDX, amd64.RCX, amd64.R8, amd64.R9)
	sysvCalleeSaved = amd64.Set(amd64.RBX, amd64.RBP, amd64.R12, amd64.R13, amd64.R14, amd64.R15)
)

// ChooseSite finds where f is patched. It prefers to keep the first
// instruction, then more, and begins at the entry itself, with a warning, only
// where nothing else is possible. Errors are *Refusal.
func ChooseSite(f Function) (Site, error) {
	if len(f.code()) == 0 {
		return Site{}, refuse(SiteTooShort, f, f.Entry, "no code is known")
	}
	in, err := amd64.Decode(f.Text, f.Entry)
	if err != nil {
		return Site{}, refuse(SiteUndecodable, f, f.Entry, err.Error())
	}
	if reader, read := amd64.FlagsRead(f.code(), f.Entry, f.Entry); read {
		return Site{}, refuse(SiteFlags, f, reader.Addr,
			fmt.Sprintf("a flag that the function's caller has set is read there (% x), and guards change flags", reader.Bytes()))
	}
	c := &chooser{f: f, branches: branches(&f), neighbours: neighbours(&f)}
	if f.Go {
		return c.goSite()
	}
	return c.sysvSite(in)
}

// chooser looks for a site in one function.
type chooser struct {
	f          Function
	branches   []branch // of the function
	neighbours []branch // of the code around it, into it
}

// sysvSite tries sites behind 1, 2 … kept instructions, then at the entry. The
// refusal it returns is that of the first place tried.
func (c *chooser) sysvSite(first amd64.Inst) (Site, error) {
	var refusal error
	k := keeper{arguments: sysvArguments, calleeSaved: sysvCalleeSaved}
	for i := first; len(k.kept) < maxKept && k.keep(i); {
		s, err := c.siteAfter(&k)
		if err == nil {
			return s, nil
		}
		if refusal == nil {
			refusal = err
		}
		if i, err = amd64.Decode(c.f.Text[k.size:], c.f.Entry.Add(int64(k.size))); err != nil {
			break
		}
	}
	s, err := c.siteAfter(&keeper{})
	if err == nil {
		s.Warnings = append(s.Warnings, entryWarning(c.f.Name))
		return s, nil
	}
	if refusal == nil {
		refusal = err
	}
	return Site{}, refusal
}

// siteAfter returns the site behind what k keeps, or why it is none.
func (c *chooser) siteAfter(k *keeper) (Site, error) {
	s := Site{
		Function: c.f.Name, Entry: c.f.Entry, Start: c.f.Entry.Add(int64(k.size)), Kept: k.instructions(),
		ABI: jit.SysV, SPDelta: k.spDelta, Undo: k.undo(),
	}
	var err error
	if s.After, err = c.replaced(s.Start); err != nil {
		return Site{}, err
	}
	if err := c.finish(&s); err != nil && (!isLoop(err) || c.siteAround(&s) != nil) {
		return Site{}, err
	}
	flags := k.changesFlags && !amd64.FlagsDead(c.f.code(), c.f.Entry, s.Start)
	if flags || k.copies {
		if s.Again = k.repeatable(); s.Again == nil {
			return Site{}, refuse(SiteFlags, c.f, s.Start, "a flag that a kept instruction sets is read behind it")
		}
	}
	free := amd64.FreeAtEntry(c.f.code(), c.f.Entry, runStart(s.Again, s.Start), 0)
	// Argument registers are not free even where the function ignores them:
	// the next guard of the site may read them. What was pushed has its value yet, if
	// a reject does not pop it.
	s.Free = free &^ (sysvCalleeSaved &^ k.restored()) &^ sysvArguments &^ k.pushedResult
	return s, nil
}

// replaced decodes the instructions that jumpLen bytes from start cover. Behind
// the function's end, padding counts.
func (c *chooser) replaced(start address.Addr) ([]amd64.Inst, error) {
	var run []amd64.Inst
	at := start
	for at < start.Add(jumpLen) {
		if at >= c.f.end() || c.f.Size == 0 && unreached(run, at) {
			if len(run) == 0 || !c.padded(at, start.Add(jumpLen)) {
				return nil, refuse(SiteTooShort, c.f, start,
					fmt.Sprintf("%d bytes are left of the function, a jump needs %d", int64(at-start), jumpLen))
			}
			break
		}
		i, err := amd64.Decode(c.f.Text[at-c.f.Entry:], at)
		if err != nil {
			return nil, refuse(SiteUndecodable, c.f, at, err.Error())
		}
		run = append(run, i)
		at = i.Next()
	}
	return run, nil
}

// unreached reports whether nothing in run leads to at, behind it: where the
// function's size is not known, it may have ended.
func unreached(run []amd64.Inst, at address.Addr) bool {
	for _, i := range run {
		if (i.Flow == amd64.FlowJump || i.Flow == amd64.FlowCond) && i.Target == at {
			return false
		}
	}
	if len(run) == 0 {
		return false
	}
	switch run[len(run)-1].Flow {
	case amd64.FlowJump, amd64.FlowIndirectJump, amd64.FlowReturn, amd64.FlowTrap:
		return true
	}
	return false
}

// padded reports whether the bytes from at to end are padding behind the
// function, and so is everything up to the next 16-byte boundary: a nop behind
// a boundary may be the first instruction of another function.
func (c *chooser) padded(at, end address.Addr) bool {
	boundary := (at + 15) &^ 15
	if end > boundary {
		return false
	}
	for at < boundary {
		text := c.f.Text[min(uint64(at-c.f.Entry), uint64(len(c.f.Text))):]
		if len(text) > 0 && text[0] == 0xcc {
			at++
			continue
		}
		i, err := amd64.Decode(text, at)
		if err != nil || !i.IsNop() {
			return false
		}
		at = i.Next()
	}
	return at == boundary
}

// finish checks the site's page, branches and relocation, and fills in the rest.
func (c *chooser) finish(s *Site) error {
	last := s.Start.Add(s.length() - 1)
	if s.Start.Page() != last.Page() {
		return refuse(SitePage, c.f, s.Start, "the bytes to be replaced lie in two pages")
	}
	moved := s.moved()
	s.Resume = moved[len(moved)-1].Next()
	if err := c.checkBranches(s); err != nil {
		return err
	}
	off := s.Start - s.Entry
	end := min(off+address.Addr(s.length()), address.Addr(len(c.f.Text)))
	s.Original = c.f.Text[off:end:end]
	for _, run := range [][]amd64.Inst{s.Before, s.After} {
		if err := c.movable(run); err != nil {
			return err
		}
	}
	return nil
}

// isLoop reports whether a site was refused because of a branch.
func isLoop(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Code == SiteBranch
}

// movable tries to relocate a run to a place as near as an arena will be.
func (c *chooser) movable(run []amd64.Inst) error {
	_, err := relocateRun(run, runStart(run, c.f.Entry))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, amd64.ErrCallInside):
		return refuse(SiteCall, c.f, run[0].Addr, err.Error())
	case errors.Is(err, amd64.ErrSystem):
		return refuse(SiteSystem, c.f, run[0].Addr, err.Error())
	}
	return refuse(SiteUndecodable, c.f, run[0].Addr, err.Error())
}

// runStart is where a run starts, and other for an empty one.
func runStart(run []amd64.Inst, other address.Addr) address.Addr {
	if len(run) == 0 {
		return other
	}
	return run[0].Addr
}

// relocateRun moves a run of adjacent instructions to to.
func relocateRun(run []amd64.Inst, to address.Addr) (amd64.Relocated, error) {
	var code []byte
	for _, i := range run {
		code = append(code, i.Bytes()...)
	}
	return amd64.Relocate(code, runStart(run, to), to)
}

func refuse(code Code, f Function, at address.Addr, why string) *Refusal {
	msg := fmt.Sprintf("%s at %v cannot be guarded: at %v: %s", f.Name, f.Entry, at, why)
	return &Refusal{Code: code, Msg: msg, Instead: "guard a function that calls it instead"}
}
