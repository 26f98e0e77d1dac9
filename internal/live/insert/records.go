package insert

import (
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// changes are the records of the arenas that the process does not have, as
// writes. The program does not read them, so that no thread need be stopped.
func changes(arenas []*arena.Arena) []block { return blocksOf(arenas, (*arena.Arena).Changes) }

// guardChanges is changes for the records of guards alone.
func guardChanges(arenas []*arena.Arena) []block {
	return blocksOf(arenas, (*arena.Arena).GuardChanges)
}

func blocksOf(arenas []*arena.Arena, records func(*arena.Arena) []arena.Record) []block {
	var out []block
	for _, a := range arenas {
		for _, r := range records(a) {
			out = append(out, block{at: a.State().Start.Add(int64(r.Off)), bytes: r.Bytes})
		}
	}
	return out
}

// wrote notes that the process has all records of the arenas.
func wrote(arenas []*arena.Arena) {
	for _, a := range arenas {
		for _, r := range a.Changes() {
			a.Wrote(r)
		}
	}
}

// writeChanges writes the records that the process does not have.
func writeChanges(t *tracee.Tracer, p *tracee.Process, arenas ...*arena.Arena) error {
	for _, b := range changes(arenas) {
		if err := t.Write(p, b.at, b.bytes); err != nil {
			return err
		}
	}
	wrote(arenas)
	return nil
}
