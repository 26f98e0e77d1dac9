package insert

import (
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// writeChanges writes the records of a that the process does not have. No
// thread is stopped: the program does not read them.
func writeChanges(t *tracee.Tracer, p *tracee.Process, a *arena.Arena) error {
	for _, r := range a.Changes() {
		if err := t.Write(p, a.State().Start.Add(int64(r.Off)), r.Bytes); err != nil {
			return err
		}
		a.Wrote(r)
	}
	return nil
}
