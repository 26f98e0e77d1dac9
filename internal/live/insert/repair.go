package insert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Deed is one leftover, and what became of it.
type Deed struct {
	Left observe.Leftover
	Done string
}

// Repaired is what a repair did.
type Repaired struct {
	Deeds   []Deed
	Pause   time.Duration // the longest time one thread was off
	StaysKB int           // memory of PIE that stays mapped in the process, in KiB
}

// Repair finishes or undoes what a killed pie left half-done in p (see
// observe.Leftovers), and proves that nothing is left. A prepatch that is in
// everywhere stays; one that is in at some places only, or whose removal had
// begun, is taken out; what was only prepared is taken back. It may be killed at
// any step, and started again. file is as in Remove.
//
// Errors: those of Remove, and ErrUnproven when something is still left.
func Repair(ctx context.Context, t *tracee.Tracer, p *tracee.Process, file Original) (Repaired, error) {
	r := repair{t: t, p: p, file: file}
	unlock, err := p.Lock()
	if err != nil {
		return r.report, err
	}
	defer unlock()
	for range repairRounds {
		left, err := observe.Leftovers(p)
		if err != nil {
			return r.report, orGone(p, err)
		}
		if len(left) == 0 {
			return r.report, r.stays()
		}
		if err := r.round(ctx, left); err != nil {
			return r.report, orGone(p, err)
		}
	}
	left, err := observe.Leftovers(p)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("pid %d: %v: %w", p.Pid(), left[0], ErrUnproven)
	}
	return r.report, errors.Join(err, r.stays())
}

// repairRounds bounds the rounds: what one puts right may show something else,
// as an arena whose last prepared guard is gone.
const repairRounds = 5

// repair is a repair on its way.
type repair struct {
	t      *tracee.Tracer
	p      *tracee.Process
	file   Original
	report Repaired
}

// round puts right everything that was found. What needs stopped threads is
// done at the end.
func (r *repair) round(ctx context.Context, left []observe.Leftover) error {
	var memory []observe.Leftover
	for _, l := range left {
		done, err := "", error(nil)
		switch l.Kind {
		case observe.LeftPartly, observe.LeftLeaving:
			done, err = r.takeOut(ctx, l.ID)
		case observe.LeftSpare:
			done, err = "settled", settleSpares(r.t, r.p)
		case observe.LeftUnrecorded:
			done, err = r.record(l.ID)
		case observe.LeftMode:
			done, err = r.settleMode(ctx, l.ID)
		case observe.LeftPrepared:
			done, err = r.forget(l.ID)
		case observe.LeftCode:
			l.Arena.AbandonSlots()
			done, err = "freed", writeChanges(r.t, r.p, l.Arena)
		case observe.LeftPadding:
			done, err = r.clearPadding(ctx, l)
		default:
			memory = append(memory, l)
			continue
		}
		if err != nil {
			return fmt.Errorf("pid %d: %v: %w", r.p.Pid(), l, err)
		}
		r.report.Deeds = append(r.report.Deeds, Deed{l, done})
	}
	if len(memory) == 0 {
		return nil
	}
	return r.clear(ctx, memory)
}

func (r *repair) takeOut(ctx context.Context, id string) (string, error) {
	done, err := Remove(ctx, r.t, r.p, id, r.file)
	r.report.Pause = max(r.report.Pause, done.Pause)
	return "taken out", err
}

func (r *repair) clearPadding(ctx context.Context, l observe.Leftover) (string, error) {
	stop, err := clearPadding(ctx, r.t, r.p, l.Padding)
	r.report.Pause = max(r.report.Pause, stop.Pause)
	return "cleared", err
}

// inArenas calls f with every arena that has the prepatch, its record there and
// those of its guards, and writes what f changed.
func (r *repair) inArenas(id string, f func(a *arena.Arena, i int, guards []int)) error {
	arenas, err := observe.Arenas(r.p)
	if err != nil {
		return err
	}
	for _, a := range arenas {
		for i := range a.Prepatches {
			if a.Prepatches[i].State != arena.Free && a.Prepatches[i].ID == id {
				f(a, i, a.GuardsOf(i))
			}
		}
		if err := writeChanges(r.t, r.p, a); err != nil {
			return err
		}
	}
	return nil
}

// record finishes an insertion whose sites were all written.
func (r *repair) record(id string) (string, error) {
	return "kept, and recorded", r.inArenas(id, func(a *arena.Arena, i int, guards []int) {
		for _, j := range guards {
			a.Guards[j].State = arena.In
		}
		a.Prepatches[i].State = arena.In
	})
}

// forget drops the records of a prepatch none of whose guards is in.
func (r *repair) forget(id string) (string, error) {
	return "taken back", r.inArenas(id, func(a *arena.Arena, i int, guards []int) {
		for _, j := range guards {
			if a.Guards[j].State == arena.Prepared {
				a.Forget(j)
			} else {
				a.Release(j, false)
			}
		}
		a.Prepatches[i] = arena.Prepatch{}
	})
}

// settleMode gives every guard of a prepatch the mode and the trial of its first
// one, which is the one a change begins with.
func (r *repair) settleMode(ctx context.Context, id string) (string, error) {
	var mode jit.Mode
	kept, n := false, 0
	err := eachGuard(ctx, r.p, id, func(g observe.Guard) error {
		if n++; n == 1 {
			mode, kept = g.Mode, g.TrialEnd.IsZero()
			return nil
		}
		at := g.Arena.Control(g.Index)
		if kept && !g.TrialEnd.IsZero() {
			if err := r.t.Write(r.p, at.Add(jit.ControlTrialEnd), make([]byte, 8)); err != nil {
				return err
			}
		}
		return r.t.Write(r.p, at.Add(jit.ControlMode), binary.LittleEndian.AppendUint32(nil, uint32(mode)))
	})
	return "changed in all", err
}

// clear unmaps memory, in a stop of one thread, and zeroes frames, in a stop of
// all: where a thread that waits for a CPU stands is to be seen in no other way.
func (r *repair) clear(ctx context.Context, left []observe.Leftover) error {
	if err := r.unmap(ctx, layOutUnmaps(left)); err != nil {
		return fmt.Errorf("pid %d: unmapping what a killed pie left: %w", r.p.Pid(), err)
	}
	if err := r.clearFrames(ctx); err != nil {
		return fmt.Errorf("pid %d: clearing what a killed pie left on the stack: %w", r.p.Pid(), err)
	}
	for _, l := range left {
		done := "unmapped"
		if l.Kind == observe.LeftFrame {
			done = "cleared"
		}
		r.report.Deeds = append(r.report.Deeds, Deed{l, done})
	}
	return nil
}

// unmap tries again while a thread has not got out of the dead pie's call yet, in
// which case nothing was done.
func (r *repair) unmap(ctx context.Context, unmaps []unmap) error {
	for try := 1; len(unmaps) > 0; try++ {
		var start time.Time
		err := r.t.Attach(ctx, r.p, func(at *tracee.Attached) error {
			start = time.Now()
			for ; len(unmaps) > 0; unmaps = unmaps[1:] {
				if err := unmaps[0].carryOut(at); err != nil {
					return err
				}
			}
			return nil
		})
		if !start.IsZero() {
			r.report.Pause = max(r.report.Pause, time.Since(start))
		}
		if !errors.Is(err, tracee.ErrNoRemoteSyscall) || try == prepareTries {
			return err
		}
		time.Sleep(prepareWait)
	}
	return nil
}

func (r *repair) clearFrames(ctx context.Context) error {
	maps, err := r.p.Maps()
	if err != nil {
		return err
	}
	frames := tracee.LeftFrames(r.p, maps)
	if len(frames) == 0 {
		return nil
	}
	for try := 1; ; try++ {
		stop, err := r.t.StopWorld(ctx, r.p, nil, func(w *tracee.World) error {
			for _, f := range frames {
				if err := w.ClearFrame(f); err != nil {
					return err
				}
			}
			return nil
		})
		r.report.Pause = max(r.report.Pause, stop.Pause)
		if !errors.Is(err, tracee.ErrBusy) || try == prepareTries {
			return err
		}
		time.Sleep(prepareWait) // it goes on by itself, as soon as it gets a CPU
	}
}

// unmap is memory to be taken away, if it still holds what it did.
type unmap struct {
	at        address.Addr // of what is looked at
	want, has []byte
	ranges    []arena.Range
}

// layOutUnmaps prepares what is done while a thread stands still. Of an arena the
// state goes last, since it names the rest.
func layOutUnmaps(left []observe.Leftover) []unmap {
	var out []unmap
	for _, l := range left {
		switch l.Kind {
		case observe.LeftMapping:
			n := l.Range.End - l.Range.Start
			out = append(out, unmap{at: l.Range.Start, want: make([]byte, n), has: make([]byte, n), ranges: []arena.Range{l.Range}})
		case observe.LeftArena:
			a := l.Arena
			u := unmap{at: a.State().Start, want: a.Snapshot(), has: a.Snapshot()}
			if a.Mapped&arena.HasCode != 0 {
				u.ranges = append(u.ranges, a.Code())
			}
			if a.Mapped&arena.HasShared != 0 {
				u.ranges = append(u.ranges, a.Shared())
			}
			u.ranges = append(u.ranges, a.State())
			out = append(out, u)
		}
	}
	return out
}

func (u *unmap) carryOut(at *tracee.Attached) error {
	if err := at.Read(u.has, u.at); err != nil || !bytes.Equal(u.want, u.has) {
		return errors.Join(err, ErrStale)
	}
	for _, r := range u.ranges {
		if err := munmap(at, r); err != nil {
			return err
		}
	}
	return nil
}

func munmap(at *tracee.Attached, r arena.Range) error {
	_, err := at.Syscall(unix.SYS_MUNMAP, uint64(r.Start), uint64(r.End-r.Start))
	return err
}

func (r *repair) stays() (err error) {
	r.report.StaysKB, err = mappedKB(r.p)
	return err
}
