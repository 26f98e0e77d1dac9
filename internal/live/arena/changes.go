package arena

import (
	"bytes"
	"crypto/sha256"
	"slices"
)

// Changes returns the records that differ from what the process has, in the
// order in which they are to be written: what others refer to first. Control
// blocks, which running code changes, are not among them.
func (a *Arena) Changes() []Record {
	var out []Record
	add := func(r Record) {
		if !bytes.Equal(a.raw[r.Off:r.Off+len(r.Bytes)], r.Bytes) {
			out = append(out, r)
		}
	}
	add(a.EncodeHeader())
	for i := range a.Slots {
		add(a.EncodeSlot(i))
	}
	for i := range a.Prepatches {
		add(a.EncodePrepatch(i))
	}
	for i := range a.Guards {
		add(a.EncodeGuard(i))
	}
	add(a.EncodeHandler())
	return out
}

// GuardChanges returns those of Changes that are records of guards.
func (a *Arena) GuardChanges() []Record {
	t := a.Header.geometry.guards
	return slices.DeleteFunc(a.Changes(), func(r Record) bool {
		return r.Off < int(t.row(0)) || r.Off >= int(t.row(int(t.count)))
	})
}

// Wrote notes that the process has record r now.
func (a *Arena) Wrote(r Record) { copy(a.raw[r.Off:], r.Bytes) }

// Unchanged reports whether state, read from the process now, is what the
// arena was decoded from. Control blocks, the fault block and counters in padding, which
// running code changes, are not compared.
func (a *Arena) Unchanged(state []byte) bool {
	if len(state) < len(a.raw) {
		return false
	}
	now, was := bytes.Clone(state[:len(a.raw)]), bytes.Clone(a.raw)
	g := a.Header.geometry
	for _, b := range [][]byte{now, was} {
		clear(b[g.controls.off:g.controls.row(int(g.controls.count))])
		clear(b[g.handler+handlerRecord : g.handler+handlerSize])
		if a.Header.apart != 0 {
			clear(b[g.counters.off:g.counters.row(int(g.counters.count))])
		}
	}
	return bytes.Equal(now, was)
}

// Region is one region of an arena.
type Region struct {
	Range Range
	Is    Regions // exactly one
}

// Missing returns the regions that the process does not have, the state first:
// it is what names the others.
func (a *Arena) Missing() []Region {
	var out []Region
	for _, r := range []Region{{a.State(), HasState}, {a.Code(), HasCode}, {a.Shared(), HasShared}} {
		if a.Mapped&r.Is == 0 {
			out = append(out, r)
		}
	}
	return out
}

// Snapshot returns the state region as the process has it.
func (a *Arena) Snapshot() []byte { return bytes.Clone(a.raw) }

// Revert returns the records that bring the process back to an earlier
// snapshot, in the order in which they are to be written: guards first, what
// they refer to last.
func (a *Arena) Revert(snapshot []byte) []Record {
	var out []Record
	add := func(t table, i int) {
		was, is := t.cut(snapshot, i), t.cut(a.raw, i)
		if !bytes.Equal(was, is) {
			out = append(out, Record{int(t.row(i)), was})
		}
	}
	g := a.Header.geometry
	for _, t := range []table{g.guards, g.prepatches} {
		for i := range int(t.count) {
			add(t, i)
		}
	}
	if was := snapshot[g.handler : g.handler+handlerRecord]; !bytes.Equal(was, a.raw[g.handler:g.handler+handlerRecord]) {
		out = append(out, Record{int(g.handler), bytes.Clone(was)})
	}
	for i := range int(g.slots.count) {
		add(g.slots, i)
	}
	return out
}

// ContentHash is Slot.Content of code.
func ContentHash(code []byte) uint64 {
	h := sha256.Sum256(code)
	return order.Uint64(h[:8])
}

// Clone returns a model that changes independently, of the same process.
func (a *Arena) Clone() *Arena {
	c := *a
	c.Slots = slices.Clone(a.Slots)
	c.Prepatches = slices.Clone(a.Prepatches)
	c.Guards = slices.Clone(a.Guards)
	c.Controls = slices.Clone(a.Controls)
	c.raw = bytes.Clone(a.raw)
	return &c
}
