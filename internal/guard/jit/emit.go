package jit

import (
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// emitter writes one guard out. A block is written in one of two states: bare,
// with rsp and all registers outside regs.free as at entry, or framed, with
//
//	rsp + 0            bytecode stack, e.stack bytes
//	rsp + e.stack      slots
//	rsp + e.vectors    saved vector registers and windows of copied memory
//	rsp + e.copies     copied memory
//	rsp + e.acts       where the guard may act on the target, a word: whether it does
//	rsp + e.local      saved registers, the first pushed last
//
// below the entry's rsp. Once framed a path stays so until it leaves the guard.
type emitter struct {
	*amd64.Asm
	p    program
	f    *function
	regs *registers
	site Site
	l    Layout

	body, enter []amd64.Label // by block: with the frame as it is, and on the way from bare to framed
	framed      bool          // state of the code being written
	pushed      int32         // bytes pushed beyond the frame at this point
	deepest     int32         // most bytes used below the entry's rsp
	stack       int32
	vectors     int32
	copies      int32
	copied      int32 // bytes at copies
	acts        int32
	local       int32
	mayAct      bool              // the guard may write the target's memory or call its functions
	reads       map[*value]*reach // in this block
	checked     map[*value]int64  // bases whose page was found plausible in this block

	link      amd64.Label // where a call that passes leaves
	linkAt    *block      // whose end the link is: control comes there without a jump
	body0     int         // Code.Body
	linkOff   int         // Code.Link, once the link is written
	end       int         // Code.End
	misplaced error       // why displaced instructions could not be written
	later     []func()    // code written after all blocks
	landing   [2]amd64.Label
	landed    [2]bool // landing is wanted: bare, framed
	outOf     amd64.Label
	burnt     bool // outOf is wanted
	noRoom    amd64.Label
	cramped   bool // noRoom is wanted
	record    amd64.Label
	records   bool
	probe     amd64.Label
	probes    bool
	fetch     amd64.Label
	fetches   bool
	pokes     amd64.Label
	poked     bool // pokes is wanted
	zeros     amd64.Label
	zeroed    bool // zeros is wanted

	invocation amd64.Label
	invokes    bool        // invocation is wanted
	returned   amd64.Label // where a function that was called returns to
	fetchInto  amd64.Label
	windows    bool
	inner      *amd64.Label // where reads of the helper being written fail to
	calls      amd64.Label  // literal: address of the call counters
	counts     bool         // the literal is wanted
	sequence   sequence
	rodata     amd64.Label
	faults     []FaultRange
	lands      []amd64.Label // landing of each fault range

	draft draft
	ends  []int // by block: where its code ends, what is cold of it not counted
}

// emitWith writes f out by what a round before has shown, d, and says what this one has.
// Where a branch that d says is short does not reach, the error is ErrOutOfReach.
func emitWith(d draft, p program, f *function, regs *registers, s Site, l Layout) (*Code, draft, error) {
	e := &emitter{Asm: amd64.NewAsm(l.Code), p: p, f: f, regs: regs, site: s, l: l, draft: d, ends: make([]int, len(f.blocks))}
	e.Shorten(d.short)
	for range f.blocks {
		e.body = append(e.body, e.Label())
		e.enter = append(e.enter, e.Label())
	}
	for _, lb := range []*amd64.Label{
		&e.link, &e.landing[0], &e.landing[1], &e.outOf, &e.noRoom, &e.record, &e.probe, &e.fetch, &e.fetchInto, &e.pokes, &e.zeros, &e.invocation, &e.returned, &e.calls, &e.rodata,
	} {
		*lb = e.Label()
	}
	e.layFrame()
	e.markFramed()
	e.linkAt = lastPass(f.blocks)
	e.entry()
	for i, b := range f.blocks {
		e.block(b, i)
	}
	e.coldCode()
	code, err := e.Bytes()
	if e.misplaced != nil {
		return nil, draft{}, placeError(p.Unit(), -1, "the displaced instructions", e.misplaced)
	}
	if errors.Is(err, amd64.ErrOutOfReach) {
		return nil, e.shown(0), placeError(p.Unit(), -1, err.Error(), ErrLayout)
	}
	if err != nil {
		return nil, draft{}, placeError(p.Unit(), -1, err.Error(), ErrUnsupported)
	}
	if room := regs.conv.room; room > 0 && e.deepest > room {
		return nil, draft{}, placeError(p.Unit(), -1, fmt.Sprintf("%d bytes", e.deepest), ErrStack)
	}
	for i, lb := range e.lands {
		e.faults[i].Landing, _ = e.Bound(lb)
	}
	saved := amd64.Set(regs.saved...)
	if !slices.ContainsFunc(f.blocks, func(b *block) bool { return b.framed }) {
		saved = 0
	}
	return &Code{
		Bytes: code, Body: e.body0, Link: e.linkOff, End: e.end,
		Faults: e.faults, Stack: int(e.deepest), Saved: saved, Rseq: e.countsWith(),
	}, e.shown(shortSlack), nil
}

// entry writes what runs ahead of the guard, and the mode check.
func (e *emitter) entry() {
	e.displaced(e.l.Before)
	e.body0 = e.Len()
	e.OpStoreImm(amd64.Cmp, 4, amd64.Abs(e.l.Control.Add(ControlMode)), int32(ModeOff))
	e.Jcc(amd64.CondE, e.link)
	if e.p.Unit().Caps&bpf.CapCall != 0 {
		e.unlessInside()
	}
}

// block writes b, the i-th.
func (e *emitter) block(b *block, i int) {
	var prev *block
	if i > 0 {
		prev = e.f.blocks[i-1]
	}
	e.framed = b.framed
	e.checked = map[*value]int64{}
	e.reads = e.reaches(b)
	if e.entersFrame(b) {
		if prev != nil && prev.framed && e.fallsInto(prev, b) {
			e.Jmp(e.body[b.id])
		}
		e.Bind(e.enter[b.id])
		e.prologue()
	}
	e.Nop(e.padding(b))
	e.Bind(e.body[b.id])
	if b == e.f.entry {
		e.count()
	}
	last := len(b.values)
	if e.paysAndJumps(b) {
		last--
	}
	for _, v := range b.values[:last] {
		e.value(v)
	}
	switch b.term {
	case termJump:
		switch {
		case last < len(b.values):
			e.burnTo(int32(b.values[last].imm), e.to(b, b.succs[0]))
			e.ends[b.id] = e.Len()
			e.Jmp(e.outOf)
		default:
			e.phiMoves(b, b.succs[0])
			if !e.runsInto(i, b.succs[0]) {
				e.Jmp(e.to(b, b.succs[0]))
			}
		}
	case termBranch:
		e.branch(b, i)
	case termExit:
		e.exit(b)
	case termFault:
		e.Jmp(e.land())
	}
	if e.ends[b.id] == 0 {
		e.ends[b.id] = e.Len()
	}
}

// entersFrame reports whether there is a way into b on which the frame is made.
func (e *emitter) entersFrame(b *block) bool {
	return b.framed && (b == e.f.entry || slices.ContainsFunc(b.preds, func(p *block) bool { return !p.framed }) ||
		b == e.f.onFault && e.faultsBare())
}

// paysAndJumps reports whether b, a way back in a loop, ends with a unit of fuel and a
// jump, and nothing in between: then one branch does both.
func (e *emitter) paysAndJumps(b *block) bool {
	n := len(b.values)
	return b.term == termJump && n > 0 && b.values[n-1].op == opFuel && b.succs[0].id <= b.id && !e.hasMoves(b)
}

// hasMoves reports whether the phis of the one block behind b take something from b that lies
// elsewhere.
func (e *emitter) hasMoves(b *block) bool {
	to := b.succs[0]
	i := slices.Index(to.preds, b)
	for _, phi := range to.values {
		if phi.op != opPhi {
			break
		}
		if phi.uses > 0 && phi.args[i].op != opUndef && (phi.args[i].isConst() || phi.args[i].loc != phi.loc) {
			return true
		}
	}
	return false
}

// runsInto reports whether control that runs off the end of the i-th block comes to to:
// it is the next, or only blocks without code, which lead there too, stand between.
func (e *emitter) runsInto(i int, to *block) bool {
	from := e.f.blocks[i]
	for _, b := range e.f.blocks[i+1:] {
		if b == to {
			return true
		}
		if b.framed != from.framed || e.entersFrame(b) || len(b.values) > 0 || b.term != termJump || b.succs[0] != to || e.hasMoves(b) {
			return false
		}
	}
	return false
}

// faultsBare reports whether a read can fault while there is no frame.
func (e *emitter) faultsBare() bool {
	return slices.ContainsFunc(e.f.blocks, func(b *block) bool { return !b.framed && b.mayFault() })
}

// fallsInto reports whether control reaches b by running off the end of prev.
func (e *emitter) fallsInto(prev, b *block) bool {
	return slices.Contains(prev.succs, b)
}

// to returns the label by which from goes on to b.
func (e *emitter) to(from, b *block) amd64.Label {
	if !from.framed && !b.framed && b.onlyPasses() {
		return e.link
	}
	if b.framed && !from.framed {
		return e.enter[b.id]
	}
	return e.body[b.id]
}

// coldCode writes what stands behind all blocks.
func (e *emitter) coldCode() {
	if _, written := e.Bound(e.link); !written {
		e.writeLink()
	}
	for len(e.later) > 0 {
		write := e.later[0]
		e.later = e.later[1:]
		write()
	}
	for state, framed := range []bool{false, true} {
		if e.landed[state] {
			e.framed = framed
			e.Bind(e.landing[state])
			e.event(KindFault, nil)
			e.Jmp(e.to(&block{framed: framed}, e.f.onFault))
		}
	}
	if e.burnt {
		e.framed = true
		e.Bind(e.outOf)
		e.event(KindFuel, nil)
		e.Jmp(e.body[e.f.onFuel.id])
	}
	if e.cramped {
		e.Bind(e.noRoom)
		e.LockInc(e.counter(CounterFaults))
		e.Jmp(e.link)
	}
	e.routines()
	e.countData()
	e.Bind(e.rodata)
	e.Raw(e.p.Unit().Rodata...)
	if e.zeroed {
		e.Bind(e.zeros)
		e.Raw(make([]byte, zeroPiece)...)
	}
}

// land returns the label a failed read of the current block jumps to.
func (e *emitter) land() amd64.Label {
	if e.inner != nil {
		return *e.inner
	}
	i := 0
	if e.framed {
		i = 1
	}
	e.landed[i] = true
	return e.landing[i]
}

// mayFault notes that the code between start and here may fault, and where it
// continues then.
func (e *emitter) mayFault(start address.Addr, landing amd64.Label) {
	if e.l.Faults != Table {
		return
	}
	e.faults = append(e.faults, FaultRange{Start: start, End: e.Here()})
	e.lands = append(e.lands, landing)
}
