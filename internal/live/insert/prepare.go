package insert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// step is one thing prepare does to the stopped thread's process: map a
// region, or write bytes. All are laid out before the stop.
type step struct {
	arena  int
	stray  arena.Range  // to unmap, when not empty
	region arena.Region // to map, when Is is not 0
	write  block
	record bool         // write is a record
	anchor bool         // write is the anchor of an arena in padding
	block  *arena.Block // the prepatch's state, to map
	// install is set on the step that installs table mode's handler.
	install bool
	rseq    bool        // ask whether the thread has the struct rseq that guards count with
	ask     unix.Signal // of the program's, whose handler is asked about; 0: none
	own     block       // a byte of a site, as it is: the process gets its own copy of the page
}

// prepare maps and fills the arenas. When it returns an error, what it mapped
// is unmapped and what it wrote is taken back.
func (in *insertion) prepare(ctx context.Context) error {
	steps, err := in.steps()
	if err != nil {
		return err
	}
	f := filling{steps: steps}
	for try := 1; f.next < len(steps); {
		err = in.t.Attach(ctx, in.p, func(at *tracee.Attached) error { return in.fill(at, &f) })
		if err == nil {
			continue
		}
		if !errors.Is(err, tracee.ErrNoRemoteSyscall) || try == prepareTries {
			err = fmt.Errorf("pid %d: preparing the arena: %w", in.p.Pid(), err)
			if f.next > 0 || in.began() {
				return errors.Join(err, in.undo(ctx)) // the thread ended half-way; another one takes it back
			}
			return err
		}
		try++
		time.Sleep(prepareWait) // the thread may still be on its way out of a dead pie's call
	}
	in.note(steps)
	return nil
}

const (
	prepareTries = 5
	prepareWait  = 10 * time.Millisecond
)

// filling is a preparation on its way through its steps.
type filling struct {
	steps []step
	next  int
	away  int // times that a thread which had been let go of did not stop again in time
}

const awayTries = 5

// slice is how long a thread that computes is kept from it before it is let go of,
// and stopped again for what is left to do.
const slice = 40 * time.Microsecond

// fill does steps in the stopped thread: all that are left, or as many as fit into
// a slice.
func (in *insertion) fill(at *tracee.Attached, f *filling) error {
	start := time.Now()
	defer func() { in.report.Pause = max(in.report.Pause, at.Kept()) }()
	for first := f.next; f.next < len(f.steps); f.next++ {
		if f.next > first && f.named() && at.Computing() && !at.Held() && !at.Away() && time.Since(start) > slice {
			return nil
		}
		err := in.do(at, &f.steps[f.next])
		if errors.Is(err, tracee.ErrBusy) && at.Away() && f.away < awayTries {
			f.away++
			return nil // the next Attach takes its time to stop it; no step minds being done again
		}
		if err != nil {
			undone := in.takeBack(at)
			if undone == nil {
				f.next = 0
			}
			return errors.Join(err, undone)
		}
	}
	return nil
}

// named tells whether all that was mapped has a name, by which another pie finds
// it should this one be killed: a state region and a block get theirs in the step
// that follows.
func (f *filling) named() bool {
	last := &f.steps[f.next-1]
	return last.block == nil && last.region.Is != arena.HasState
}

// steps lays out what is done: unmap what a killed pie could not name; then, arena
// by arena, map the state and write the header, so that the rest has a name; map
// the other regions; write the records as prepared, the control blocks, the code.
func (in *insertion) steps() ([]step, error) {
	var out []step
	if in.rseq().Known {
		out = append(out, step{rseq: true})
	}
	for _, s := range in.strays {
		out = append(out, step{stray: s})
	}
	state, err := in.stateSteps()
	if err != nil {
		return nil, err
	}
	out = append(out, state...)
	for k, a := range in.arenas {
		records := a.Changes()
		missing := a.Missing()
		if a.Mapped&arena.HasState == 0 {
			out = append(out, step{arena: k, region: missing[0]}, in.recordStep(k, records[0]))
			missing, records = missing[1:], records[1:]
		}
		if l, ok := a.Padding(); ok && in.bare[k] {
			out = append(out, step{arena: k, anchor: true, write: block{at: l.Anchor().Start, bytes: l.EncodeAnchor()}})
		}
		for _, m := range missing {
			out = append(out, step{arena: k, region: m})
		}
		for _, r := range records {
			out = append(out, in.recordStep(k, r))
		}
		for _, g := range in.pp.guards {
			if g.Place.Arena == a && !in.pp.again {
				s := in.recordStep(k, a.EncodeControl(g.Place.Index))
				s.record = false
				out = append(out, s)
			}
		}
		code, err := in.codeSteps(k)
		if err != nil {
			return nil, err
		}
		out = append(out, code...)
	}
	ask, err := in.askSteps()
	return slices.Concat(out, ask, in.faultSteps(), in.ownSteps()), err
}

// ownSteps have the kernel copy the pages of the sites, which takes it a fifth of what a
// commit would keep a thread for that computes. The byte is written as it is, and is one
// inside an instruction: nobody fetches anything else, and no breakpoint is put there.
// And they have it make the pages of new counters, which the first call would wait for.
func (in *insertion) ownSteps() []step {
	var out []step
	for k, g := range in.pp.guards {
		if !in.pp.again {
			counters, _, _ := g.Place.Arena.Counters(g.Place.Index)
			out = append(out, step{own: block{at: counters, bytes: []byte{0}}})
		}
		if !in.firstAt(k) || len(in.others(g)) > 0 {
			continue
		}
		if i := insideInstruction(g); i > 0 {
			out = append(out, step{own: block{at: g.Site.Add(int64(i)), bytes: g.Original[i : i+1]}})
		}
	}
	return out
}

// insideInstruction returns the offset of a byte of the site that begins no instruction, 0
// if there is none.
func insideInstruction(g plan.Guard) int {
	n := len(g.Original)
	if g.Entrance != 0 {
		n = int(g.Vacated - g.Site) // behind it instructions begin
	}
	for i := 1; i < n; i++ {
		at := g.Site.Add(int64(i))
		if !slices.ContainsFunc(g.Moves, func(m plan.Move) bool { return m.From == at }) {
			return i
		}
	}
	return 0
}

// faultSteps write a new handler's fault block and install the handler.
func (in *insertion) faultSteps() []step {
	f := in.faults
	if f == nil {
		return nil
	}
	var out []step
	if !f.live {
		// The table only: the program's dispositions in the block are installHandler's.
		at := in.arenas[f.in].FaultBlock().Add(jit.FaultsTable)
		out = append(out, step{arena: f.in, write: block{at: at, bytes: f.words()}})
	}
	return append(out, step{arena: f.in, install: true})
}

func (in *insertion) recordStep(k int, r arena.Record) step {
	return step{arena: k, record: true, write: block{at: in.arenas[k].State().Start.Add(int64(r.Off)), bytes: r.Bytes}}
}

// codeSteps writes what of the code the process does not have yet.
func (in *insertion) codeSteps(k int) ([]step, error) {
	a := in.arenas[k]
	var out []step
	blocks, err := in.blocks(a)
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		parts := []block{b}
		if a.Mapped&arena.HasCode != 0 {
			has := make([]byte, len(b.bytes))
			if _, err := in.p.ReadAt(has, b.at); err != nil {
				return nil, fmt.Errorf("pid %d: code at %v: %w", in.p.Pid(), b.at, err)
			}
			var ok bool
			if parts, ok = b.missing(has, a.Was(b.slot)); !ok {
				return nil, fmt.Errorf("pid %d: the slot at %v holds other code: %w", in.p.Pid(), b.at, ErrStale)
			}
		}
		for _, w := range parts {
			out = append(out, step{arena: k, write: w})
		}
	}
	return out, nil
}

// do runs one step in the target.
func (in *insertion) do(at *tracee.Attached, s *step) error {
	switch {
	case s.own.bytes != nil:
		at.Own(s.own.at, s.own.bytes[0])
		return nil
	case s.ask != 0:
		return in.askHandler(at, s)
	case s.install:
		return in.installHandler(at)
	case s.rseq:
		return in.askRseq(at)
	case s.stray.End != 0:
		return munmap(at, s.stray)
	case s.block != nil:
		return in.mapState(at, s.block)
	}
	if s.region.Is == 0 {
		if err := at.Write(s.write.at, s.write.bytes); err != nil {
			return err
		}
		if s.anchor {
			in.mapped[s.arena] = arena.HasAll
		}
		if a := in.arenas[s.arena]; s.record {
			a.Wrote(arena.Record{Off: int(s.write.at - a.State().Start), Bytes: s.write.bytes})
		}
		return nil
	}
	if err := mmap(at, s.region); err != nil {
		return err
	}
	in.mapped[s.arena] |= s.region.Is
	return nil
}

// mmap maps a region where it is to be.
func mmap(at *tracee.Attached, r arena.Region) error {
	got, err := at.Syscall(unix.SYS_MMAP, mapArgs(r)...)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("map %v: %w", r.Range.Start, ErrStale)
	}
	if err != nil {
		return fmt.Errorf("map %d bytes at %v: %w", r.Range.End-r.Range.Start, r.Range.Start, err)
	}
	if got != uint64(r.Range.Start) {
		// A kernel before 4.17 takes MAP_FIXED_NOREPLACE for a hint.
		_, err := at.Syscall(unix.SYS_MUNMAP, got, uint64(r.Range.End-r.Range.Start))
		return errors.Join(fmt.Errorf("map %v: the kernel gave %#x: %w", r.Range.Start, got, ErrStale), err)
	}
	return nil
}

// mapArgs are mmap(2)'s for a region: code is never writable to the program.
func mapArgs(r arena.Region) []uint64 {
	prot, flags := uint64(unix.PROT_READ|unix.PROT_WRITE), uint64(unix.MAP_PRIVATE)
	switch r.Is {
	case arena.HasCode:
		prot = unix.PROT_READ | unix.PROT_EXEC
	case arena.HasShared:
		flags = unix.MAP_SHARED
	}
	const noFile = ^uint64(0)
	return []uint64{
		uint64(r.Range.Start), uint64(r.Range.End - r.Range.Start), prot,
		flags | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE, noFile, 0,
	}
}

// takeBack unmaps what prepare has mapped, and reverts the records of arenas
// that were there before. No site leads to any of it. An arena whose handler was
// installed stays: a signal may be on its way through it.
func (in *insertion) takeBack(at *tracee.Attached) error {
	var errs error
	for k := range in.arenas {
		if in.faults == nil || !in.faults.installed || in.faults.in != k {
			errs = errors.Join(errs, in.takeBackArena(at, k))
		}
	}
	return errors.Join(errs, in.unmapState(at))
}

func (in *insertion) takeBackArena(at *tracee.Attached, k int) error {
	var errs error
	a := in.arenas[k]
	if in.mapped[k] == 0 {
		for _, r := range a.Revert(in.before[k]) {
			errs = errors.Join(errs, at.Write(a.State().Start.Add(int64(r.Off)), r.Bytes))
		}
		return errs
	}
	if l, ok := a.Padding(); ok {
		for _, w := range l.Clear() {
			errs = errors.Join(errs, at.Write(w.At, w.Bytes))
		}
	}
	for _, r := range slices.Backward(a.Missing()) { // the state last: it names the others
		if in.mapped[k]&r.Is != 0 {
			_, err := at.Syscall(unix.SYS_MUNMAP, uint64(r.Range.Start), uint64(r.Range.End-r.Range.Start))
			errs = errors.Join(errs, err)
		}
	}
	if errs == nil {
		in.mapped[k] = 0
	}
	return errs
}

// undo takes a prepared insertion back. The process may have replaced its
// program meanwhile: then nothing at the arenas' addresses is ours.
func (in *insertion) undo(ctx context.Context) error {
	err := in.t.Attach(context.WithoutCancel(ctx), in.p, func(at *tracee.Attached) error {
		for _, a := range in.arenas {
			want, from := a.EncodeHeader().Bytes, a.State().Start
			if l, ok := a.Padding(); ok {
				want, from = l.EncodeAnchor(), l.Anchor().Start
			}
			has := make([]byte, len(want))
			if at.Read(has, from) != nil || !bytes.Equal(has, want) {
				return tracee.ErrGone
			}
		}
		return in.takeBack(at)
	})
	if err != nil && !errors.Is(err, tracee.ErrGone) {
		return fmt.Errorf("pid %d: taking back what was prepared: %w", in.p.Pid(), err)
	}
	return nil
}

// began reports whether something that was mapped has not been taken back.
func (in *insertion) began() bool {
	if in.state.mapped {
		return true
	}
	for k := range in.mapped {
		if in.mapped[k] != 0 {
			return true
		}
	}
	return false
}

// note remembers which pages the process is charged for.
func (in *insertion) note(steps []step) {
	for _, s := range steps {
		if s.region.Is == 0 && !s.install && !s.rseq && s.ask == 0 && s.stray.End == 0 && s.own.bytes == nil {
			in.dirty(s.write)
		}
	}
}

// dirty notes the pages that a write has touched.
func (in *insertion) dirty(b block) {
	for at := b.at.Page(); at < b.at.Add(int64(len(b.bytes))); at = at.Add(pageSize) {
		in.pages[at] = true
	}
	in.report.Dirtied = len(in.pages) * pageSize
}
