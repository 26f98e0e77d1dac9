package jit

import "github.com/patch-integration-engine/pie/internal/isa/amd64"

// A reach is the memory that several reads of one block share a system call for:
// reads off one base, with nothing between them that could end the guard
// otherwise. All of them are due once the first is, so that asking for all of it
// at once faults exactly when one of them would.
type reach struct {
	lo, hi int64 // from the base: the first byte and past the last
	buffer int32 // Copy: where the copy is, from e.copies
	asked  bool  // by an earlier read of the block
}

// Bounds of a reach: a probe of both ends must tell about all pages between
// them, and a copy lies on the thread's stack.
const (
	maxProbed = pageSize
	maxCopied = 128
)

// reaches groups the reads of b.
func (e *emitter) reaches(b *block) map[*value]*reach {
	limit := int64(maxProbed)
	switch e.l.Faults {
	case Table:
		return nil
	case Copy:
		limit = maxCopied
	}
	of, open := map[*value]*reach{}, map[*value]*reach{}
	var all []*reach
	for _, v := range b.values {
		if v.burns() || v.shared || v.acts() {
			clear(open) // what changes memory comes after a read that faults, or before
		}
		if v.op != opLoad || !v.faults {
			continue
		}
		lo, hi := v.imm, v.imm+int64(v.size)
		g := open[v.args[0]]
		if g == nil || max(g.hi, hi)-min(g.lo, lo) > limit {
			g = &reach{lo: lo, hi: hi}
			open[v.args[0]] = g
			all = append(all, g)
		}
		g.lo, g.hi = min(g.lo, lo), max(g.hi, hi)
		of[v] = g
	}
	buffer := int32(0)
	for _, g := range all {
		g.buffer = buffer
		buffer += int32(g.hi-g.lo+7) &^ 7
	}
	e.copied = max(e.copied, buffer)
	return of
}

// load writes a read. Its result is never the base, so that it serves as scratch
// register before.
func (e *emitter) load(v *value) {
	d := e.result(v)
	m := e.at(v)
	if !v.faults {
		e.loadInto(d, v, m)
		return
	}
	switch {
	case v.looked:
	case len(v.args) > 1:
		e.plausibleAt(d, e.sumAt(v, v.imm-minAddress))
	default:
		e.plausible(d, v.args[0], m.Base, v.imm)
	}
	g := e.reads[v]
	switch e.l.Faults {
	case Table:
		start := e.Here()
		e.loadInto(d, v, m)
		e.mayFault(start, e.land())
		return
	case Probe:
		if !g.asked {
			e.probeReach(g, d, m.Base)
		}
		e.loadInto(d, v, m)
	case Copy:
		if !g.asked {
			e.fetchReach(g, d, m.Base)
		}
		e.loadInto(d, v, amd64.At(amd64.RSP, e.pushed+e.copies+g.buffer+int32(v.imm-g.lo)))
	}
	g.asked = true
}

// probeReach asks for the page of the first byte, and for that of the last when
// it is another.
func (e *emitter) probeReach(g *reach, t, base amd64.Reg) {
	e.Lea(t, amd64.At(base, int32(g.lo)))
	e.probeAt(t)
	last := g.hi - 1
	if last == g.lo {
		return
	}
	same := e.Label()
	e.Lea(t, amd64.At(base, int32(last)))
	e.OpImm(amd64.And, 4, t, pageSize-1)
	e.OpImm(amd64.Cmp, 4, t, int32(last-g.lo))
	e.Jcc(amd64.CondAE, same)
	e.Lea(t, amd64.At(base, int32(last)))
	e.probeAt(t)
	e.Bind(same)
}

// probeAt leaves through the fault exit unless the 8 aligned bytes around t can
// be read.
func (e *emitter) probeAt(t amd64.Reg) {
	e.probes = true
	e.push(t)
	e.deepest = max(e.deepest, e.frameSize()+probeStack)
	e.Call(e.probe)
	e.drop(8)
	e.Jcc(amd64.CondB, e.land())
}

// fetchReach copies a reach to its buffer, or leaves through the fault exit.
func (e *emitter) fetchReach(g *reach, t, base amd64.Reg) {
	e.fetches = true
	e.Lea(t, amd64.At(base, int32(g.lo)))
	e.push(t)
	e.PushImm(int32(g.hi - g.lo))
	e.grow(8)
	e.Lea(t, amd64.At(amd64.RSP, e.pushed+e.copies+g.buffer))
	e.push(t)
	e.deepest = max(e.deepest, e.frameSize()+fetchStack)
	e.Call(e.fetch)
	e.drop(24)
	e.Jcc(amd64.CondB, e.land())
}
