package pie

import (
	"context"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Remove takes the prepatch id, or every one for AnyID, out of the selected
// processes, children first, and checks that the bytes are the file's again.
func Remove(ctx context.Context, id string, sel Select) (*Report, error) {
	return removal(id).alone(ctx, sel)
}

func removal(id string) change { return change{id: id, childrenFirst: true, do: remove} }

func remove(ctx context.Context, t *tracee.Tracer, p *process, w *tracee.Process, id string, out *ProcessReport) error {
	done, err := insert.Remove(ctx, t, w, id, originalOf(p))
	if err != nil {
		return err
	}
	out.State, out.Changed = StateUnguarded, true
	out.Pause = max(out.Pause, done.Pause)
	out.KiB = done.StaysKB
	return nil
}

// originalOf reads what the file has at a site: the mapping there says which
// file and where in it, not the record, which the process could have written.
func originalOf(p *process) insert.Original {
	return func(g arena.Guard) ([]byte, error) {
		maps, err := p.read.Maps()
		if err != nil {
			return nil, err
		}
		for _, m := range maps {
			if !m.Contains(g.Site) || !m.HasFile() {
				continue
			}
			f, err := p.read.OpenMapped(m)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			b := make([]byte, len(g.Original))
			if _, err := f.ReadAt(b, int64(m.Offset)+int64(g.Site-m.Start)); err != nil {
				return nil, fmt.Errorf("reading %s: %w", m.Path, err)
			}
			return b, nil
		}
		return nil, fmt.Errorf("no file is mapped at %v", g.Site)
	}
}
