package insert

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// SetMode changes what the prepatch id does in p. It writes one aligned word a
// guard and stops no thread: a call sees the old mode or the new. Setting a
// mode forgets why a guard turned itself off, and a trial that is over; one
// that still runs goes on. changed is false when the mode was that already.
// ErrNotIn; tracee.ErrBusy while another pie is at work on p, which may be giving
// the guard's place to another guard. To switch off is what somebody does in need: it
// waits for no other pie, which may be stopped itself.
func SetMode(ctx context.Context, t *tracee.Tracer, p *tracee.Process, id string, m jit.Mode) (changed bool, err error) {
	unlock, err := p.Lock()
	switch {
	case err == nil:
		defer unlock()
	case m != jit.ModeOff || !errors.Is(err, tracee.ErrBusy):
		return false, err
	}
	err = eachGuard(ctx, p, id, func(g observe.Guard) error {
		at := g.Arena.Control(g.Index)
		if !g.TrialEnd.IsZero() && time.Now().After(g.TrialEnd) {
			if err := t.Write(p, at.Add(jit.ControlTrialEnd), make([]byte, 8)); err != nil {
				return err
			}
			changed = true
		}
		if g.Tripped != jit.TripNone {
			if err := t.Write(p, at.Add(jit.ControlTripped), make([]byte, 4)); err != nil {
				return err
			}
		}
		if g.Mode == m {
			return nil
		}
		changed = true
		return t.Write(p, at.Add(jit.ControlMode), binary.LittleEndian.AppendUint32(nil, uint32(m)))
	})
	return changed, err
}

// Keep ends the trial of the prepatch id in p: it stays as it is until it is
// removed. A guard that has turned itself off stays off. changed is false when
// there was no trial. ErrNotIn; tracee.ErrBusy while another pie is at work on p.
func Keep(ctx context.Context, t *tracee.Tracer, p *tracee.Process, id string) (changed bool, err error) {
	unlock, err := p.Lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	err = eachGuard(ctx, p, id, func(g observe.Guard) error {
		if g.TrialEnd.IsZero() {
			return nil
		}
		changed = true
		at := g.Arena.Control(g.Index)
		if err := t.Write(p, at.Add(jit.ControlTrialEnd), make([]byte, 8)); err != nil {
			return err
		}
		if err := t.Write(p, at.Add(jit.ControlMaxReject), make([]byte, 4)); err != nil {
			return err
		}
		pp := &g.Arena.Prepatches[g.Arena.Guards[g.Index].Prepatch]
		pp.Flags |= arena.FlagKept
		return writeChanges(t, p, g.Arena)
	})
	return changed, err
}

// eachGuard calls f for every guard of the prepatch.
func eachGuard(ctx context.Context, p *tracee.Process, id string, f func(observe.Guard) error) error {
	if err := p.Check(); err != nil {
		return err
	}
	all, err := observe.Status(p)
	if err != nil && len(all) == 0 {
		return err
	}
	found := false
	for _, pp := range all {
		if pp.ID != id {
			continue
		}
		for _, g := range pp.Guards {
			if err := ctx.Err(); err != nil {
				return err
			}
			found = true
			if err := f(g); err != nil {
				return fmt.Errorf("pid %d: %s: %w", p.Pid(), g.Function, err)
			}
		}
	}
	if !found {
		return fmt.Errorf("pid %d: %s: %w", p.Pid(), id, ErrNotIn)
	}
	return nil
}
