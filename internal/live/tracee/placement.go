package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Where a frame lies: on the main thread's stack, which every process has, grows
// by itself and has no neighbours, as the stacks of threads, goroutines and
// coroutines have. It must never lie on bytes that the program uses:
//
//   - Bytes that were never written, at the low end of the stack: main has not
//     been that deep yet. They serve whichever thread makes the call.
//   - Below the stack pointer of main, when main itself is the thread that makes
//     the call: it stands still, and what lies there is dead by the psABI (3.2.2),
//     whatever it once held. The kernel writes signal frames there on the same
//     ground. This is what a process has whose main thread was deep in a recursion
//     once, or is so now.
//   - Bytes below the stack, which grows to them, when main was that deep and has
//     ended since.
//
// A frame lies at a multiple of frameMax, so that it is found again when the stack
// has grown since. Its tracer may have died, and the program may have come down to
// it again: it is only touched while its checksum says that the program has not
// written there since.
const (
	// frameSlots is how many places at the low end are tried.
	frameSlots = 4
	// belowFrame is room, in bytes, for a signal handler that may run on the frame
	// if a tracer dies between unblocking signals and restoring the registers.
	belowFrame = 16 << 10
	// stackHeadroom lies between a frame and the lowest bytes of the stack in use.
	stackHeadroom = 32 << 10
	// stackGap is what the kernel keeps free below a stack (stack_guard_gap).
	stackGap = 1 << 20
)

// stack is main's stack, and where the mapping below it ends.
type stack struct {
	proc.Mapping
	below address.Addr
}

func findStack(maps []proc.Mapping) (stack, bool) {
	var s stack
	for _, m := range maps {
		if m.Path == "[stack]" {
			s.Mapping = m
			return s, m.Size() != 0
		}
		s.below = m.End
	}
	return s, false
}

// slot is where the i-th frame lies.
func (s *stack) slot(i int) address.Addr {
	return alignDown(s.Start.Add(belowFrame+frameMax-1)) + address.Addr(i*frameMax)
}

func alignDown(a address.Addr) address.Addr { return a - a%frameMax }

// needsMain tells whether a frame can probably lie below main's stack pointer only:
// main runs, so that nobody knows how deep, or was deeper than a frame would lie.
func (r *remote) needsMain(p *Process) bool {
	u, err := p.userState(p.Pid())
	return err == nil && u.running || r.stackWasUsed(p)
}

// stackWasUsed tells whether main was as deep in its stack as a frame would lie.
func (r *remote) stackWasUsed(p *Process) bool {
	if _, err := p.ReadAt(r.look, r.stack.slot(0)); err != nil {
		return false
	}
	return !bytes.Equal(r.look, r.zero) && intactFrame(r.look) == 0
}

// withMain puts the main thread into the list, where it can be stopped: ahead of the
// others, or behind them.
func (p *Process) withMain(list []candidate, first bool) []candidate {
	i := slices.IndexFunc(list, func(c candidate) bool { return c.tid == p.Pid() })
	switch {
	case i >= 0 && first:
		main := list[i]
		return slices.Insert(slices.Delete(list, i, i+1), 0, main)
	case i >= 0:
		return list
	}
	main, ok := p.candidate(p.Pid())
	switch {
	case !ok:
		return list
	case first:
		return slices.Insert(list, 0, main)
	}
	return append(list, main)
}

// notNow says why no call can be made at this moment.
type notNow struct {
	pid int
	why string
}

func (e *notNow) Error() string { return fmt.Sprintf("pid %d: %s", e.pid, e.why) }

// Is makes it match both: nothing was done, and trying again helps.
func (e *notNow) Is(target error) bool { return target == ErrBusy || target == ErrNoRemoteSyscall }

func (a *Attached) notNow(why string) error { return &notNow{a.p.Pid(), why} }

// placeFrame finds bytes that nobody uses.
func (a *Attached) placeFrame() error {
	r := &a.remote
	if r.size > frameMax {
		return fmt.Errorf("pid %d: a frame of %d bytes: %w", a.p.Pid(), r.size, ErrNoRemoteSyscall)
	}
	places, err := a.lookForPlaces()
	if err != nil {
		return err
	}
	if r.dead = places.free == 0; r.dead {
		return a.placeOnDead(places)
	}
	r.at = places.free
	return nil
}

// places are where a frame could lie; 0: nowhere.
type places struct {
	free    address.Addr // nobody has ever used it
	dirty   address.Addr // it holds something of the program's, in use or not
	leaving bool         // a place is kept by a thread that is on its way out of it
	limit   address.Addr // what is in use begins here, or higher
}

func (a *Attached) lookForPlaces() (places, error) {
	r := &a.remote
	limit, err := a.lowestUsed()
	found := places{limit: limit}
	if err != nil {
		return found, err
	}
	for i := range frameSlots {
		at := r.stack.slot(i)
		if at.Add(frameMax+stackHeadroom) > limit {
			break
		}
		switch use, err := a.useOf(at); {
		case err != nil:
			return found, fmt.Errorf("its stack is not where it was: %w (%w)", ErrBusy, err)
		case use == slotFree:
			found.free = at
			return found, nil
		case use == slotLeaving:
			found.leaving = true
		case found.dirty == 0:
			found.dirty = at
		}
	}
	return found, nil
}

// checkPlace looks, before anything is done, whether another thread than main finds
// room for a frame. If not, main may.
func (a *Attached) checkPlace() error {
	if a.remote.refusal != nil || a.tid == a.p.Pid() {
		return nil
	}
	places, err := a.lookForPlaces()
	if err != nil || places.free != 0 {
		return err
	}
	return a.placeOnDead(places)
}

// placeOnDead takes bytes that hold something, or that the stack has yet to grow
// to: those below the stack pointer of main, which stands still.
func (a *Attached) placeOnDead(places places) error {
	r := &a.remote
	sp := address.Addr(r.regs.Rsp)
	switch {
	case places.leaving:
		return a.notNow("a thread is still on its way out of a dead tracer's call")
	case a.tid != a.p.Pid() && !a.p.mainLives():
		return a.placeBelow()
	case a.tid != a.p.Pid():
		return a.notNow("its stack was in use down to its low end, and its main thread does not stop")
	case !r.stack.Contains(sp):
		return a.notNow("its stack was in use down to its low end, and its main thread runs on another one at the moment")
	case a.interruptedBelow(sp):
		return a.notNow("its main thread is in a signal handler whose stack lies inside its own")
	case places.dirty != 0:
		r.at = places.dirty
		return nil
	}
	at := alignDown(places.limit.Add(-stackHeadroom - frameMax))
	if use, err := a.useOf(at); err == nil && use == slotLeaving {
		return a.notNow("a thread is still on its way out of a dead tracer's call")
	}
	if at.Add(-belowFrame) < r.stack.below+stackGap || a.beyondLimit(at.Add(-belowFrame)) {
		return a.notNow("its main thread is at the end of its stack")
	}
	r.at = at
	return nil
}

// placeBelow takes bytes below the stack of a main thread that has ended, which the
// write of the frame makes it grow to: nobody has been there, and nobody will be. Room
// is left above for the frames to come.
func (a *Attached) placeBelow() error {
	r := &a.remote
	at := alignDown(r.stack.Start) - frameSlots*frameMax
	if at.Add(-belowFrame) < r.stack.below+stackGap || a.beyondLimit(at.Add(-belowFrame)) {
		return fmt.Errorf("pid %d: its main thread has ended, and has left no unused room on its stack %v-%v, nor can that grow: %w",
			a.p.Pid(), r.stack.Start, r.stack.End, ErrNoRemoteSyscall)
	}
	r.at = at
	return nil
}

// mainLives tells whether the main thread has not ended.
func (p *Process) mainLives() bool {
	st, err := p.Task(p.Pid())
	return err == nil && st.State != 'Z' && st.State != 'X'
}

// beyondLimit tells whether the stack may not grow down to an address: RLIMIT_STACK.
func (a *Attached) beyondLimit(at address.Addr) bool {
	var limit unix.Rlimit
	if err := unix.Prlimit(a.p.Pid(), unix.RLIMIT_STACK, nil, &limit); err != nil {
		return false // not ours to ask; the kernel's answer to the write tells
	}
	return uint64(a.remote.stack.End-at) > limit.Cur
}

// unwritten explains why a frame could not be written: below the stack, it had to
// grow, which a limit may forbid.
func (a *Attached) unwritten(err error) error {
	if a.remote.at < a.remote.stack.Start && !errors.Is(err, ErrGone) {
		a.remote.at = 0
		return a.notNow("its main thread is at the end of its stack: " + err.Error())
	}
	return err
}

// lowestUsed returns an address on the stack below which nothing is in use: the
// stack pointer of main, and of the stopped thread, or the stack's end if these
// lie elsewhere.
func (a *Attached) lowestUsed() (address.Addr, error) {
	r := &a.remote
	limit := r.stack.End
	lower := func(sp address.Addr) error {
		if sp > r.stack.below && sp < r.stack.Start {
			return a.notNow("its stack has grown meanwhile")
		}
		if r.stack.Contains(sp) {
			limit = min(limit, sp)
		}
		return nil
	}
	if err := lower(address.Addr(r.regs.Rsp)); err != nil || a.tid == a.p.Pid() {
		return limit, err
	}
	u, err := a.p.userState(a.p.Pid())
	switch {
	case err != nil:
		return limit, nil // a kernel that does not tell
	case u.running && a.p.mainLives():
		return limit, a.notNow("its main thread, on whose stack a frame would lie, does not stop")
	}
	return limit, lower(address.Addr(u.sp))
}

// handlerReach is how far above the stack pointer the frame of a signal handler is
// looked for whose stack lies inside main's.
const handlerReach = 256 << 10

// interruptedBelow tells whether a signal handler runs on an alternate stack that
// lies inside main's own, so that what it interrupted lies below: a struct
// sigcontext above sp has a stack pointer below it, perhaps below where the stack
// ended when its mapping was read. (Else sp is the lowest there is.)
func (a *Attached) interruptedBelow(sp address.Addr) bool {
	r := &a.remote
	if a.p.caught(r.look) == 0 {
		return false
	}
	const context, rsp, cs, user64 = 256, 15 * 8, 18 * 8, 0x33
	end := min(r.stack.End, sp.Add(handlerReach))
	for at := (sp + 7) &^ 7; at.Add(context) <= end; at = at.Add(frameMax - context) {
		b := r.look[:min(frameMax, int(end-at))]
		if a.memory.read(b, at) != nil {
			return true
		}
		for ; len(b) >= context; b = b[8:] {
			below := address.Addr(binary.LittleEndian.Uint64(b[rsp:]))
			if binary.LittleEndian.Uint16(b[cs:]) == user64 && r.stack.below < below && below < sp {
				return true
			}
		}
	}
	return false
}

// slotUse is what a slot for a frame is in use for.
type slotUse uint8

const (
	slotFree    slotUse = iota
	slotDirty           // it holds something of the program's, in use or not
	slotLeaving         // a dead tracer's frame, with a thread that may be in it
)

// useOf looks at the slot at addr. It is free when it is all zero, or holds a
// frame that a killed tracer left and that no thread is going through any
// more. (The lock on the process keeps living tracers out.)
func (a *Attached) useOf(at address.Addr) (slotUse, error) {
	r := &a.remote
	b := r.look
	if err := a.memory.read(b, at); err != nil {
		return slotDirty, err
	}
	if bytes.Equal(b, r.zero) {
		return slotFree, nil
	}
	if intactFrame(b) == 0 {
		return slotDirty, nil
	}
	copy(r.intent[:], b[frameMapping:])
	if a.isStillLone() {
		if sp := address.Addr(r.regs.Rsp); at <= sp && sp < at.Add(frameMax) {
			return slotLeaving, nil
		}
		return slotFree, nil
	}
	owner := int(binary.LittleEndian.Uint32(b[frameOwner:]))
	tids, err := a.p.Tasks()
	if err != nil {
		return slotDirty, err
	}
	known := slices.Contains(tids, owner) // else it has ended, or another pid namespace numbered it
	for _, tid := range tids {
		u, err := a.p.userState(tid)
		sp, running := address.Addr(u.sp), u.running
		if tid == a.tid {
			sp, running = address.Addr(r.regs.Rsp), false
		}
		// Where a thread is that waits for a CPU is not to be seen: one that a
		// tracer left in the frame may not have got out of it yet.
		if err == nil && (running && (tid == owner || !known) || at <= sp && sp < at.Add(frameMax)) {
			return slotLeaving, nil
		}
	}
	return slotFree, nil
}

// stillOurs tells whether the frame at addr may be zeroed. Main, when it is not the thread
// that made the call, or has made it alone, may have come down to it meanwhile.
func (a *Attached) stillOurs(at address.Addr) bool {
	r := &a.remote
	if a.tid == a.p.Pid() && !r.alone {
		return true
	}
	return a.memory.read(r.look[:r.size], at) == nil && intactFrame(r.look[:r.size]) != 0
}
