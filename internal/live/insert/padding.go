package insert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// clearPadding makes the bytes of an arena in padding that no prepatch uses zero again. It
// does so in the stopped world, where it sees that no thread is in its code, nor a signal
// frame that returns there: ErrBusySite. Killed in the middle it leaves what
// observe.Leftovers names, and may be called again.
func clearPadding(ctx context.Context, t *tracee.Tracer, p *tracee.Process, l arena.Padding) (tracee.Stop, error) {
	f, code, writes := newFrames(), []arena.Range{l.Code}, l.Clear()
	want, has := l.EncodeAnchor(), make([]byte, arena.AnchorSize)
	for try := 1; ; try++ {
		stop, err := t.StopWorld(ctx, p, nil, func(w *tracee.World) error {
			if err := w.Read(has, l.Anchor().Start); err != nil {
				return err
			}
			if string(has) != string(want) {
				return ErrStale
			}
			if f.anyIn(w, code) {
				return ErrBusySite
			}
			for i := range writes {
				if err := w.Write(writes[i].At, writes[i].Bytes, nil); err != nil {
					return err
				}
			}
			return nil
		})
		switch {
		case err == nil:
			return stop, nil
		case !errors.Is(err, ErrBusySite) && !errors.Is(err, tracee.ErrBusy) || try == commitTries:
			return stop, fmt.Errorf("pid %d: clearing the bytes behind its code at %v: %w", p.Pid(), l.Code.Start, err)
		}
		select {
		case <-ctx.Done():
			return stop, ctx.Err()
		case <-time.After(commitWait):
		}
	}
}

// clearPaddings clears those of the removal's arenas that nothing is in any more. Where a
// thread stays in their code, they stay: observe.Leftovers names them, and Repair clears
// them later.
func (r *removal) clearPaddings(ctx context.Context) error {
	for _, a := range r.arenas {
		l, ok := a.Padding()
		if !ok || !r.emptied(a) {
			continue
		}
		stop, err := clearPadding(ctx, r.t, r.p, l)
		r.report.Threads, r.report.Pause = max(r.report.Threads, stop.Threads), max(r.report.Pause, stop.Pause)
		if errors.Is(err, ErrBusySite) || errors.Is(err, tracee.ErrBusy) {
			r.report.Busy = true
			continue
		}
		if err != nil {
			return err
		}
		r.report.Busy = false
	}
	return nil
}

// emptied reports whether the removal takes out all that is in a.
func (r *removal) emptied(a *arena.Arena) bool {
	for _, b := range r.freed(true) {
		if b.Base == a.Base {
			return b.Empty()
		}
	}
	return false
}

// UsePadding makes space, of p, one in which nothing can be mapped. text and data are the
// ends of pages that p's files leave unused, as their program headers say: those in which
// something stands all the same are left out.
func UsePadding(p observe.Process, space *arena.Space, text, data []arena.Range) {
	unused := func(r arena.Range) bool { return isUnused(p, r) }
	space.UsePadding(kept(text, unused), kept(data, unused))
}

func kept(all []arena.Range, keep func(arena.Range) bool) (out []arena.Range) {
	for _, r := range all {
		if keep(r) {
			out = append(out, r)
		}
	}
	return out
}

// isUnused reports whether r holds zeros, or the anchor alone that a killed pie left.
func isUnused(p observe.Process, r arena.Range) bool {
	b := make([]byte, r.End-r.Start)
	if _, err := p.ReadAt(b, r.Start); err != nil {
		return false
	}
	if n := len(b) - arena.AnchorSize; n > 0 {
		if _, ok := arena.DecodeAnchor(r.End, b[n:]); ok {
			b = b[:n]
		}
	}
	return bytes.Equal(b, make([]byte, len(b)))
}
