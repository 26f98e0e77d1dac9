package jit

import (
	"cmp"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// exit writes the end of b. A verdict that is not known yet is looked up among
// those that verification found possible.
func (e *emitter) exit(b *block) {
	if b.exit.verdict.isConst() {
		e.leave(verdictOf(b.exit.verdict), b.exit)
		return
	}
	known := passLast(e.p.Verdicts())
	framed := e.framed
	r := e.operand(b.exit.verdict, 0)
	for _, v := range known[:max(len(known)-1, 0)] {
		is := e.Label()
		e.OpImm(amd64.Cmp, 4, r, int32(v))
		e.Jcc(amd64.CondE, is)
		e.later = append(e.later, func() {
			e.framed = framed
			e.Bind(is)
			e.leave(v, b.exit)
		})
	}
	if len(known) > 0 {
		e.leave(known[len(known)-1], b.exit)
		return
	}
	e.leave(bpf.VerdictPass, b.exit)
}

// passLast moves the verdict that needs no jump to the end.
func passLast(known []bpf.Verdict) []bpf.Verdict {
	slices.SortStableFunc(known, func(a, b bpf.Verdict) int {
		return cmp.Compare(b.Kind(), a.Kind())
	})
	return known
}

// lastPass returns the last of the common blocks that ends in a pass, or nil:
// control comes to its end without a jump.
func lastPass(blocks []*block) *block {
	for _, b := range slices.Backward(blocks) {
		if !b.cold && b.term == termExit && (!b.exit.verdict.isConst() || verdictOf(b.exit.verdict) == bpf.VerdictPass) {
			return b
		}
	}
	return nil
}

// onlyPasses reports whether b does nothing but let the call pass.
func (b *block) onlyPasses() bool {
	return len(b.values) == 0 && b.term == termExit && b.exit.verdict.isConst() && verdictOf(b.exit.verdict) == bpf.VerdictPass
}

// pass leaves the guard at x, the exit of a block: the call goes on.
func (e *emitter) pass(x *exit) {
	if _, written := e.Bound(e.link); !written && e.linkAt != nil && e.linkAt.exit == x {
		e.writeLink()
		return
	}
	e.Jmp(e.link)
}

// writeLink writes the link and what follows it.
func (e *emitter) writeLink() {
	if !LinkFits(e.Len()) {
		e.Nop(-e.Len() & (linkWord - 1))
	}
	e.Bind(e.link)
	e.linkOff = e.Len()
	e.Raw(linkThrough[:]...)
	e.displaced(e.l.After)
	e.end = e.Len()
}

// displaced writes instructions that the site's jump displaced.
func (e *emitter) displaced(write Displaced) {
	if write == nil {
		return
	}
	code, err := write(e.Here())
	if err != nil && e.misplaced == nil {
		e.misplaced = err
	}
	e.Raw(code...)
}

// leave writes what a verdict does.
func (e *emitter) leave(v bpf.Verdict, x *exit) {
	switch v.Kind() {
	case bpf.VerdictReject:
		e.reject(v, x)
		return
	case bpf.VerdictRewrite:
		e.rewrite(v, x)
		return
	case bpf.VerdictExit:
		e.exitProcess(x)
		return
	case bpf.VerdictLog:
		e.event(KindLog, x.code)
	}
	e.epilogue()
	e.pass(x)
}

// reject counts and writes the event; unless that finds that the call is to
// pass after all, it makes the function return.
func (e *emitter) reject(v bpf.Verdict, x *exit) {
	e.eventOrPass(KindReject, x.code)
	words, xmm0, errno, _ := carried(v)
	if errno {
		e.setErrno(x.errno)
	}
	if xmm0 {
		e.MovToVec(8, 0, e.operand(x.xmm0, 0))
	}
	var moves []transfer
	var results amd64.RegSet
	for i, w := range x.words[:min(words, len(x.words))] {
		r := e.regs.conv.results[i]
		results = results.With(r)
		moves = append(moves, transfer{location{reg: r, slot: -1}, w})
	}
	e.parallel(moves)
	e.restoreBut(results)
	e.Raw(e.site.Undo...)
	e.Ret()
}

// rewrite counts and writes the event; unless that finds that the call is to
// pass as it is, the call goes on with the argument words that v names changed.
func (e *emitter) rewrite(v bpf.Verdict, x *exit) {
	e.eventOrPass(KindRewrite, x.code)
	var moves []transfer
	var changed amd64.RegSet
	for i, w := range x.words {
		if v.Rewrites()&(1<<i) == 0 {
			continue
		}
		if i >= len(e.regs.conv.args) {
			e.stackArg(i-len(e.regs.conv.args), w)
			continue
		}
		r := e.regs.conv.args[i]
		changed = changed.With(r)
		moves = append(moves, transfer{location{reg: r, slot: -1}, w})
	}
	e.parallel(moves)
	e.restoreBut(changed)
	e.Jmp(e.link)
}

// stackArg changes stack argument word i of a SysV function, before any register is:
// the words begin above the return address (psABI 3.2.3).
func (e *emitter) stackArg(i int, w *value) {
	m := amd64.At(amd64.RSP, e.frameSize()+e.site.SPDelta+8+8*int32(i))
	if !w.isConst() {
		e.Store(8, m, e.operand(w, 0))
		return
	}
	e.StoreImm(4, m, int32(w.imm))
	m.Disp += 4
	e.StoreImm(4, m, int32(w.imm>>32))
}

// exitProcess counts and writes the event; unless that finds that the call is to
// pass after all, the process ends here.
func (e *emitter) exitProcess(x *exit) {
	e.eventOrPass(KindExit, x.code)
	e.move(amd64.RDI, x.words[0])
	e.MovImm(amd64.RAX, sysExitGroup)
	e.Syscall()
	e.UD2() // a filter that forbids it lets it return
}

// eventOrPass writes an event that takes effect only in enforce mode and while a
// trial lasts; else the call goes on as it is.
func (e *emitter) eventOrPass(k Kind, code *value) {
	e.event(k, code)
	pass := e.Label()
	e.Jcc(amd64.CondB, pass)
	framed := e.framed
	e.later = append(e.later, func() {
		e.framed = framed
		e.Bind(pass)
		e.epilogue()
		e.Jmp(e.link)
	})
}

// restoreBut leaves the frame, restoring all saved registers but those in keep.
func (e *emitter) restoreBut(keep amd64.RegSet) {
	if !e.framed {
		return
	}
	for _, r := range slices.Backward(e.regs.saved) {
		if m, ok := e.savedAt(r); ok && !keep.Has(r) {
			e.Load(8, r, m)
		}
	}
	e.Lea(amd64.RSP, amd64.At(amd64.RSP, e.frameSize()))
}

// setErrno stores the thread's errno.
func (e *emitter) setErrno(v *value) {
	m := amd64.FSAt(amd64.NoReg, e.l.Errno.Offset)
	if e.l.Errno.GOT == 0 {
		e.storeErrno(m, v)
		return
	}
	r := amd64.RAX
	if v.loc.reg == r || len(e.regs.scratch) > 0 && e.regs.scratch[0] == r { // what storeErrno reads v from
		r = amd64.RCX
	}
	if v.loc.reg == r {
		r = amd64.RDX
	}
	e.push(r)
	e.MovImm(r, int64(e.l.Errno.GOT))
	e.Load(8, r, amd64.At(r, 0))
	e.storeErrno(amd64.FSAt(r, 0), v)
	e.pop(r)
}

func (e *emitter) storeErrno(m amd64.Mem, v *value) {
	if v.isConst() {
		e.StoreImm(4, m, int32(v.imm))
		return
	}
	e.Store(4, m, e.operand(v, 0))
}
