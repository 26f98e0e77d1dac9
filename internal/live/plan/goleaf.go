package plan

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// A Go function without a stack check, a leaf, may be preempted at any of its instructions
// (gosite.go). So its jump replaces its first instruction and no byte of the second: where
// the first is shorter than a jump, by a punned one (jit.Pun), which leads to an entrance.
// Bytes of padding behind the function are part of the displacement, too, and are
// changed with it: nothing runs there.
//
// The instruction that moved may fault: what is a nil dereference to Go's runtime must
// stay one, with the leaf in the traceback. The runtime knows no function at the pc of a
// guard's code. It takes that for a call of what is no code, and the word at rsp for the
// pc of who made it (runtime/signal_amd64.go, preparePanic; runtime/signal_unix.go,
// shouldPushSigpanic). So the pc that the instruction had is pushed while it runs:
//
//	test %r14,%r14          there is a g,
//	je   bare
//	lea  -8(%rsp),%r12
//	cmp  (%r14),%r12        and its stack, from g.stack.lo on, has a word left
//	jb   bare
//	push $pc
//	the instruction
//	lea  8(%rsp),%rsp       flags stay
//	jmp  done
//	bare: the instruction   a panic names the caller only
//	done:
//
// A fault is a signal to the program's own handler as ever, whatever stands there: PIE's
// has no part in it. Only the pc= in the line about the signal, which a panic that nobody
// recovers prints, is that of the guard's code.

// goLeaf is the site in a function without a stack check: of the first instruction or of
// one behind a frame that is being made, the one whose jump most likely finds room. As in
// other functions the first instruction rather stays. The refusal is that of the first.
func (c *chooser) goLeaf() (Site, error) {
	first, err := amd64.Decode(c.f.Text, c.f.Entry)
	if err != nil {
		return Site{}, refuse(SiteUndecodable, c.f, c.f.Entry, err.Error())
	}
	best, refusal := c.goLeafAt(&keeper{}, first)
	k := keeper{arguments: goArguments, calleeSaved: goKept.With(amd64.RDX)}
	for i := first; len(k.kept) < maxKept && framing(i) && k.keep(i); {
		if i, err = amd64.Decode(c.f.Text[k.size:], c.f.Entry.Add(int64(k.size))); err != nil || i.Addr >= c.f.end() {
			break
		}
		s, err := c.goLeafAt(&k, i)
		if err != nil {
			continue
		}
		if refusal != nil || roomy(&s) && !(len(best.Kept) > 0 && roomy(&best)) {
			best, refusal = s, nil
		}
	}
	if refusal != nil {
		return Site{}, refusal
	}
	if len(best.Kept) == 0 {
		best.Warnings = append(best.Warnings, entryWarning(c.f.Name))
	}
	return best, nil
}

// framing reports an instruction that does nothing but make the frame: no argument, and
// nothing that is scratch at the entry, is another one behind it.
func framing(i amd64.Inst) bool {
	return i.Effects().Writes&^amd64.Set(amd64.RSP, amd64.RBP) == 0
}

// goLeafAt is the site that replaces the instruction i, behind what k keeps.
func (c *chooser) goLeafAt(k *keeper, i amd64.Inst) (Site, error) {
	s := Site{
		Function: c.f.Name, Entry: c.f.Entry, Start: i.Addr, Kept: k.instructions(), After: []amd64.Inst{i},
		ABI: jit.GoInternal, SPDelta: k.spDelta, Undo: k.undo(), Faults: faults(i),
	}
	if !i.Effects().Known || s.Faults && !namable(i) {
		return Site{}, refuse(SiteGo, c.f, i.Addr, "a Go function without a stack check, whose first instruction cannot be moved alone")
	}
	if k.changesFlags && !amd64.FlagsDead(c.f.code(), c.f.Entry, s.Start) {
		return Site{}, refuse(SiteFlags, c.f, s.Start, "a flag that a kept instruction sets is read behind it")
	}
	if i.Len < jumpLen {
		if s.Puns = c.puns(i); len(s.Puns) == 0 {
			return Site{}, refuse(SiteGo, c.f, i.Addr, "a Go function without a stack check, whose first instruction is shorter than a jump, "+
				"and a jump over it alone would lead to where no memory can be")
		}
	}
	if err := c.finish(&s); err != nil {
		return Site{}, err
	}
	s.Free = c.goFree(s.Start)
	return s, nil
}

// roomy reports whether the site's jump can lead far from the function, so that no image of
// usual size is there.
func roomy(s *Site) bool {
	const far = 256 << 20
	if len(s.Puns) == 0 {
		return true
	}
	for _, p := range s.Puns {
		if _, ok := p.Next(s.Start + far); ok {
			return true
		}
		if to, ok := p.Next(lowestTarget); ok && to+far < s.Start {
			return true
		}
	}
	return false
}

// faults reports whether an instruction may fault for what a register holds.
func faults(i amd64.Inst) bool {
	const safe = amd64.MemStack | amd64.MemRIP | amd64.MemThread
	e := i.Effects()
	return (e.Loads|e.Stores)&^safe != 0
}

// namable reports whether an instruction runs as well with a word pushed, and with another
// value in r12.
func namable(i amd64.Inst) bool {
	e := i.Effects()
	return i.Flow == amd64.FlowNext && e.SPKnown && e.SPDelta == 0 && !e.Reads.Has(amd64.RSP) && !e.Writes.Has(amd64.RSP) && !e.Reads.Has(amd64.R12)
}

// puns are the ways to jump over i that lead to where a process may have memory.
func (c *chooser) puns(i amd64.Inst) []jit.Pun {
	off := int64(i.Addr - c.f.Entry)
	code := c.f.Text[off:min(off+punnedLen(i.Len), int64(len(c.f.Text)))]
	end := int64(len(c.f.code())) - off
	aligned := int64((c.f.end()+15)&^15-c.f.Entry) - off // what is behind may be another function
	unused := func(at int) bool { return int64(at) >= end && int64(at) < aligned && code[at] == int3 }
	var all []jit.Pun
	for _, p := range jit.Puns(i.Addr, code, i.Len, unused) {
		if to, ok := p.Next(lowestTarget); ok && to < highestTarget {
			all = append(all, p)
		}
	}
	return all
}

// int3 is what Go pads functions with.
const int3 = 0xcc

// lowestTarget and highestTarget are the ends of where a process can have memory.
const (
	lowestTarget  = 1 << 20
	highestTarget = 1 << 47
)

// punnedLen is how many bytes a punned jump over an instruction of n bytes may take.
func punnedLen(n int) int64 { return int64(min(n-1, jit.MaxPrefixes) + jumpLen) }

// writeNamed writes the instruction of After for at, so that its fault is taken for one
// where it was.
func (s *Site) writeNamed(at address.Addr) ([]byte, error) {
	long, err := s.named(at, nil)
	if err != nil {
		return nil, err
	}
	short, err := s.named(at, long.Reach(0)) // the branches are short ones
	if err != nil {
		return nil, err
	}
	return short.Bytes()
}

func (s *Site) named(at address.Addr, short []bool) (*amd64.Asm, error) {
	a := amd64.NewAsm(at)
	a.Shorten(short)
	bare, done := a.Label(), a.Label()
	a.Test(8, amd64.R14, amd64.R14)
	a.Jcc(amd64.CondE, bare)
	a.Lea(amd64.R12, amd64.At(amd64.RSP, -8))
	a.OpLoad(amd64.Cmp, 8, amd64.R12, amd64.At(amd64.R14, 0))
	a.Jcc(amd64.CondB, bare)
	a.PushAddr(s.After[0].Addr)
	first := s.writeMoved(a)
	a.Lea(amd64.RSP, amd64.At(amd64.RSP, 8))
	a.Jmp(done)
	a.Bind(bare)
	second := s.writeMoved(a)
	a.Bind(done)
	_, err := a.Bytes()
	if err = errors.Join(first, second, err); err != nil {
		return nil, fmt.Errorf("move %v: %w", s.After[0].Addr, err)
	}
	return a, nil
}

// writeMoved writes After where a is.
func (s *Site) writeMoved(a *amd64.Asm) error {
	moved, err := relocateRun(s.After, a.Here())
	a.Raw(moved.Code...)
	return err
}
