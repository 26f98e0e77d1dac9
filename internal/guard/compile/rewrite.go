package compile

import (
	"go/constant"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// A guard that rewrites keeps the argument words it may change in the frame's
// words from bpf.FrameResult on. They start as the call's own, so that a Rewrite
// may come from a path that changed only some of them.

// rewritable returns the argument words that fn and what it calls change, word i
// at bit i. What is no constant index is left for setArg to refuse.
func rewritable(fn *ssa.Function, seen map[*ssa.Function]bool) uint16 {
	if seen[fn] {
		return 0
	}
	seen[fn] = true
	var words uint16
	for _, b := range fn.Blocks {
		for _, instr := range b.Instrs {
			for _, o := range instr.Operands(nil) { // what is called, or may be: a function value
				if fn, ok := (*o).(*ssa.Function); ok && !isSetArg(fn) {
					words |= rewritable(fn, seen)
				}
			}
			call, ok := instr.(*ssa.Call)
			if !ok || call.Call.StaticCallee() == nil || !isSetArg(call.Call.StaticCallee()) {
				continue
			}
			if i, ok := call.Call.Args[1].(*ssa.Const); ok && i.Value != nil {
				if n, exact := constant.Int64Val(i.Value); exact && n >= 0 && n < bpf.FrameArgs {
					words |= 1 << n
				}
			}
		}
	}
	return words
}

func isSetArg(fn *ssa.Function) bool {
	recv := fn.Signature.Recv()
	return fn.Name() == "SetArg" && recv != nil && isCall(recv.Type())
}

// keepArgs stores the call's own argument words where SetArg changes them.
func (l *lowerer) keepArgs() {
	for i := range int32(bpf.FrameArgs) {
		if l.rewrites&(1<<i) != 0 {
			l.setFrame(bpf.FrameResult+8*i, l.argWord(int(i), leaf{size: 8}))
		}
	}
}

func (l *lowerer) setFrame(off int32, o operand) {
	l.emit(insn{op: opFrameStore, base: l.base, off: off, a: l.inReg(o)})
}

// setArg lowers Call.SetArg.
func setArg(s *site) value {
	i := s.word(1)
	switch {
	case s.caps&bpf.CapRewrite == 0:
		s.fail("add //pie:cap rewrite to the file, which the operator will be shown", "the guard changes an argument without having asked for it")
	case !i.isConst() || i.c < 0 || i.c >= bpf.FrameArgs || s.rewrites&(1<<i.c) == 0: // the last: a constant only after inlining
		s.fail("write the number", "the index of an argument that changes must be a constant from 0 to %d", bpf.FrameArgs-1)
	default:
		s.setFrame(bpf.FrameResult+8*int32(i.c), s.word(2))
	}
	return value{}
}

// rewrite lowers Rewrite.
func rewrite(s *site) value {
	switch {
	case s.caps&bpf.CapRewrite == 0:
		s.fail("add //pie:cap rewrite to the file, which the operator will be shown", "the guard changes the call without having asked for it")
	case s.rewrites == 0:
		s.fail("change an argument with c.SetArg first, or return libpie.Pass()", "the guard rewrites a call of which it changes nothing")
	}
	s.m.used |= bpf.CapRewrite
	return value{verdict: &verdict{kind: bpf.VerdictRewrite}}
}

// exitProcess lowers Exit.
func exitProcess(s *site) value {
	code := s.word(0)
	if s.caps&bpf.CapExit == 0 {
		s.fail("add //pie:cap exit to the file, which the operator will be shown", "the guard ends the process without having asked for it")
	}
	s.m.used |= bpf.CapExit
	return value{verdict: &verdict{kind: bpf.VerdictExit, results: []result{{word: code}}}}
}

// caps translates a prepatch's capabilities.
func caps(p *source.Prepatch) (c bpf.Caps) {
	for _, name := range p.Caps {
		c |= bpf.CapNamed(name)
	}
	if p.Shared {
		c |= bpf.CapShared
	}
	return c
}
