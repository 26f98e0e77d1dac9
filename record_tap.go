package pie

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/recorder"
	"github.com/patch-integration-engine/pie/internal/guard/recording"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// A tap reads the ring of one process. What it reads is the process's claim.
type tap struct {
	pid    int
	p      *process
	w      *tracee.Process
	at     address.Addr // of the state
	number int          // of the process in the recording

	tail    uint64    // the next call to read
	next    uint64    // the next slot that a call will take, as the process said last
	limit   uint64    // the slot before which calls may take one
	tokens  float64   // calls that the rate allows
	granted time.Time // when tokens were counted last
	waiting time.Time // since when the call at tail is taken and not published
	// stray is the call that may still write to a slot it took long ago, by slot.
	stray map[int]uint64
	buf   []byte
	done  bool
}

func (t *tap) close() {
	t.w.Close()
	t.p.close()
}

// pending is how many calls were taken down and not read.
func (t *tap) pending() uint64 { return t.next - min(t.tail, t.next) }

// strayAfter is how long a call that took a slot has to fill it.
const strayAfter = 2 * time.Second

// open begins to read a process. late is one that was there with its recorders
// when it was noticed, a child: what its ring holds is its parent's.
func (s *session) open(pid int, late bool) error {
	p, err := openProcess(pid)
	if err != nil {
		return err
	}
	w, err := p.attachable()
	if err != nil {
		p.close()
		return err
	}
	t := &tap{pid: pid, p: p, w: w, stray: map[int]uint64{}, granted: time.Now(), tokens: float64(s.ring.Slots)}
	if t.at, err = s.stateOf(p); err == nil {
		err = s.begins(t, late)
	}
	if err != nil {
		t.close()
		return fmt.Errorf("recording pid %d: %w", pid, err)
	}
	s.taps = append(s.taps, t)
	s.report.Processes = append(s.report.Processes, pid)
	return nil
}

// stateOf finds the recorders' state in a process.
func (s *session) stateOf(p *process) (address.Addr, error) {
	maps, err := p.read.Maps()
	if err != nil {
		return 0, err
	}
	for _, b := range observe.BlocksIn(p.read, maps) {
		if b.Program == s.p.Hash() && !b.Shared && b.Size >= int(s.ring.State()) {
			return b.At, nil
		}
	}
	return 0, errors.New("it has no memory of the recorders")
}

func (s *session) begins(t *tap, late bool) error {
	place, ok := s.names[t.pid]
	if !ok {
		place = recording.Process{Pid: t.pid, Exe: t.p.exe}
		if parent, err := t.p.read.Parent(); err == nil {
			place.Places = s.names[parent].Places
			s.names[t.pid] = place
		}
	}
	var err error
	if t.number, err = s.out.Process(place); err != nil {
		return err
	}
	if late {
		if err := s.join(t); err != nil {
			return err
		}
	}
	if err := s.write(t, recorder.RingEvery, max(s.o.Every, 1)); err != nil {
		return err
	}
	if err := s.write(t, recorder.RingOwner, owner()); err != nil {
		return err
	}
	return s.write(t, recorder.RingMark, binary.LittleEndian.Uint64(recorder.RingMagic[:]))
}

// join begins at the calls that a child has yet to make. It has the leave that its
// parent had when it was forked, and has used some of it.
func (s *session) join(t *tap) (err error) {
	if t.tail, err = s.word(t, recorder.RingNext); err != nil {
		return err
	}
	limit, err := s.word(t, recorder.RingLimit)
	if err == nil && limit > t.tail && limit-t.tail > uint64(s.ring.Slots) {
		err = fmt.Errorf("%w: it has leave for %d calls, and there are %d slots", errTap, limit-t.tail, s.ring.Slots)
	}
	t.next, t.limit = t.tail, max(t.tail, limit)
	return err
}

func (s *session) word(t *tap, off int) (uint64, error) {
	var b [8]byte
	_, err := t.p.read.ReadAt(b[:], t.at.Add(int64(s.ring.At+off)))
	return binary.LittleEndian.Uint64(b[:]), err
}

func (s *session) write(t *tap, off int, v uint64) error {
	return s.engine.tracer.Write(t.w, t.at.Add(int64(s.ring.At+off)), binary.LittleEndian.AppendUint64(nil, v))
}

// ownerBits is how many bits of an owner are when it started, in clock ticks.
const ownerBits = 40

// owner names this process: its pid, and when it started.
func owner() uint64 {
	p, err := proc.Open(os.Getpid())
	if err != nil {
		return 0
	}
	defer p.Close()
	return uint64(os.Getpid())<<ownerBits | p.Start()&(1<<ownerBits-1)
}

// recordedBy is the live process that reads what recorders of this prepatch take down
// in pid, whichever version of it they were made of and however they record; or 0.
func (s *session) recordedBy(pid int) int {
	p, err := openProcess(pid)
	if err != nil {
		return 0
	}
	defer p.close()
	maps, err := p.read.Maps()
	if err != nil {
		return 0
	}
	all, _ := observe.StatusIn(p.read, maps)
	for _, b := range observe.BlocksIn(p.read, maps) {
		isTheirs := func(in observe.Prepatch) bool { return in.ID == s.p.ID && in.Hash == b.Program }
		if b.Shared || !slices.ContainsFunc(all, isTheirs) {
			continue
		}
		state := make([]byte, min(b.Size, arena.BlockSize(bpf.MaxState)))
		if _, err := p.read.ReadAt(state, b.At); err != nil {
			continue
		}
		if at, ok := recorder.FindRing(state); ok {
			if by := liveOwner(binary.LittleEndian.Uint64(state[at+recorder.RingOwner:])); by != 0 {
				return by
			}
		}
	}
	return 0
}

// liveOwner is the pid of an owner, if that process still runs; else 0.
func liveOwner(v uint64) int {
	by := int(v >> ownerBits)
	if by == 0 {
		return 0
	}
	reader, err := proc.Open(by)
	if err != nil {
		return 0
	}
	defer reader.Close()
	if reader.Start()&(1<<ownerBits-1) != v&(1<<ownerBits-1) {
		return 0
	}
	return by
}

// Intervals of follow.
const (
	pollBusy  = 5 * time.Millisecond
	pollIdle  = 50 * time.Millisecond
	tellEvery = time.Second
	// childEvery is how often children of the recorded processes are looked for: what
	// one took down is gone with it.
	childEvery = 100 * time.Millisecond
)

// follow reads all rings until the recording is to end.
func (s *session) follow(ctx context.Context) error {
	told, looked := time.Now(), time.Now()
	for {
		before := s.report.Recorded
		live := 0
		for _, t := range s.taps {
			if t.done {
				continue
			}
			err := s.drain(t)
			if err == nil {
				err = s.grant(t)
			}
			switch {
			case errors.Is(err, errTap):
				t.done = true
				s.report.Notes = append(s.report.Notes, fmt.Sprintf("pid %d: %v", t.pid, err))
			case err != nil && t.w.Check() != nil:
				t.done = true
			case err != nil:
				return err
			default:
				live++
			}
		}
		if s.report.Why = s.over(ctx, live); s.report.Why != "" {
			return nil
		}
		if time.Since(told) >= tellEvery {
			told = time.Now()
			if err := s.everySecond(ctx); err != nil {
				return err
			}
		}
		if time.Since(looked) >= childEvery {
			looked = time.Now()
			s.openChildren()
		}
		wait := pollIdle
		if s.report.Recorded > before {
			wait = pollBusy
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// over says why the recording ends now; empty when it does not.
func (s *session) over(ctx context.Context, live int) string {
	switch {
	case ctx.Err() != nil:
		return "interrupted"
	case s.o.For > 0 && time.Since(s.begin) >= s.o.For:
		return "time"
	case s.o.MaxCalls > 0 && s.report.Recorded >= s.o.MaxCalls:
		return "calls"
	case s.o.MaxSize > 0 && s.out.Size() >= s.o.MaxSize:
		return "size"
	case live == 0:
		return "no process left"
	}
	return ""
}

// everySecond flushes the file, looks for children, and tells how far it is.
func (s *session) everySecond(ctx context.Context) error {
	if err := s.out.Flush(); err != nil {
		return err
	}
	clear(s.strangers)
	if pids, err := selected(ctx, s.sel); err == nil {
		s.openNew(pids)
	}
	if s.o.Tell != nil {
		r := s.report
		r.Size, r.Took = s.out.Size(), time.Since(s.begin)
		s.o.Tell(r)
	}
	return nil
}

// openChildren begins to read the children that recorded processes have had since.
func (s *session) openChildren() {
	for _, t := range s.taps {
		if t.done {
			continue
		}
		if pids, err := t.w.Children(); err == nil {
			s.openNew(pids)
		}
	}
}

// openNew begins to read those of the processes that are not read yet and have
// recorders. One that has none is none of ours, and asked again a second later at most.
func (s *session) openNew(pids []int) {
	for _, pid := range pids {
		isRead := func(t *tap) bool { return t.pid == pid && t.w.Check() == nil }
		if s.strangers[pid] || slices.ContainsFunc(s.taps, isRead) {
			continue
		}
		if s.open(pid, true) != nil {
			s.strangers[pid] = true
		}
	}
}

// errTap is a ring that nothing more can be read of.
var errTap = errors.New("its recording cannot be read")

// drain reads the calls that were published.
func (s *session) drain(t *tap) error {
	if t.done {
		return nil
	}
	next, err := s.word(t, recorder.RingNext)
	if err != nil {
		return err
	}
	if next < t.tail || next > t.limit {
		return fmt.Errorf("%w: it says %d calls were taken down, with leave for %d", errTap, next, t.limit)
	}
	t.next = next
	for t.tail < next {
		got, err := s.drainSome(t, next)
		if err != nil || !got {
			return err
		}
	}
	return nil
}

// drainSome reads the slots from tail to the end of the ring or to next; false when
// the call at tail is not published yet.
func (s *session) drainSome(t *tap, next uint64) (bool, error) {
	slots := uint64(s.ring.Slots)
	n := min(next-t.tail, slots-t.tail%slots)
	size := int(n) * s.ring.Size
	if cap(t.buf) < size {
		t.buf = make([]byte, slots*uint64(s.ring.Size))
	}
	b := t.buf[:size]
	if _, err := t.p.read.ReadAt(b, t.at.Add(int64(s.ring.SlotAt(t.tail)))); err != nil {
		return false, err
	}
	for ; len(b) > 0; b = b[s.ring.Size:] {
		slot := b[:s.ring.Size]
		if !recorder.Published(slot, t.tail) {
			if !t.overdue() {
				return false, nil
			}
			t.stray[int(t.tail%slots)] = t.tail
			s.report.Lost++
		} else if err := s.keep(t, slot); err != nil {
			return false, err
		}
		t.tail++
		t.waiting = time.Time{}
	}
	return true, nil
}

// overdue reports whether the call at tail has had its time. Its thread may be
// stopped, or gone.
func (t *tap) overdue() bool {
	if t.waiting.IsZero() {
		t.waiting = time.Now()
	}
	return time.Since(t.waiting) > strayAfter
}

// keep writes the published call at tail to the file. In a slot that a stray call
// may write to at any time nothing can be believed.
func (s *session) keep(t *tap, slot []byte) error {
	if _, ok := t.stray[int(t.tail%uint64(s.ring.Slots))]; ok {
		s.report.Lost++
		return nil
	}
	c, err := recorder.DecodeSlot(slot, t.tail)
	if err != nil || c.Guard >= len(s.p.Guards) {
		s.report.Lost++
		return nil
	}
	if s.o.MaxCalls > 0 && s.report.Recorded >= s.o.MaxCalls {
		return nil
	}
	s.report.Recorded++
	if c.End == recorder.EndCut {
		s.report.Cut++
	}
	return s.out.Call(recording.Call{Process: t.number, Slot: c})
}

// grant gives leave for more calls, as far as slots are free and the rate allows.
func (s *session) grant(t *tap) error {
	now := time.Now()
	t.tokens = min(t.tokens+now.Sub(t.granted).Seconds()*float64(s.o.Rate), float64(s.ring.Slots))
	t.granted = now
	free := uint64(s.ring.Slots) - (t.limit - t.tail)
	n := min(free, uint64(t.tokens))
	if n == 0 || n < uint64(s.ring.Slots)/8 && t.limit != t.next {
		return nil
	}
	t.limit += n
	t.tokens -= float64(n)
	return s.write(t, recorder.RingLimit, t.limit)
}

// withdraw takes back the leave that was given, so that nothing more is taken down.
func (s *session) withdraw() {
	for _, t := range s.taps {
		if !t.done {
			_ = s.write(t, recorder.RingLimit, 0) // a process that is gone takes nothing down
		}
	}
}

// wipe clears what was recorded from the process's memory, which stays mapped: a
// thread could still be in a recorder.
func (s *session) wipe(t *tap) {
	zero := make([]byte, 4096)
	used := min(t.next, uint64(s.ring.Slots))
	for at, end := s.ring.SlotAt(0), s.ring.SlotAt(0)+int(used)*s.ring.Size; at < end; {
		n := min(4096-at%4096, end-at)
		if s.engine.tracer.Write(t.w, t.at.Add(int64(at)), zero[:n]) != nil {
			return
		}
		at += n
	}
}
