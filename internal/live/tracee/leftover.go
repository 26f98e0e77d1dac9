package tracee

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// LeftFrame is the frame of a remote system call that nobody has cleared away.
// The thread has gone through it, or is about to; its tracer has died, unless it
// is at work right now. It harms nobody.
type LeftFrame struct {
	At     address.Addr
	Length int
	// Mapping is what the call was to map, empty if it was another call. Whether
	// it did is for /proc/PID/maps to say.
	Mapping Range
}

// Memory is what LeftFrames reads a process with.
type Memory interface {
	ReadAt(b []byte, a address.Addr) (int, error)
}

// LeftFrames looks for frames where this package puts them: at the low end of the
// main thread's stack, among the mappings maps. What a frame says is a claim of
// the process.
func LeftFrames(p Memory, maps []proc.Mapping) []LeftFrame {
	var left []LeftFrame
	for _, m := range maps {
		if m.Path != "[stack]" {
			continue
		}
		for slot := range frameSlots {
			at := frameSlot(m, slot)
			var head [frameXState]byte
			if at.Add(frameMax) > m.End {
				break
			}
			if _, err := p.ReadAt(head[:], at); err != nil {
				continue
			}
			if f, ok := parseFrame(at, head[:]); ok {
				left = append(left, f)
			}
		}
	}
	return left
}

// parseFrame reads what is written on a frame beside what restores the thread.
func parseFrame(at address.Addr, head []byte) (LeftFrame, bool) {
	le := binary.LittleEndian
	if le.Uint64(head[frameMark:]) != frameMagic {
		return LeftFrame{}, false
	}
	f := LeftFrame{At: at, Length: int(le.Uint32(head[frameLength:]))}
	if f.Length < frameXState || f.Length > frameMax {
		f.Length = frameMax
	}
	start, size := address.Addr(le.Uint64(head[frameMapping:])), le.Uint64(head[frameMapping+8:])
	if size != 0 && uint64(start)+size > uint64(start) && uint64(start)+size < 1<<47 {
		f.Mapping = Range{Start: start, End: start.Add(int64(size))}
	}
	return f, true
}

// intend writes on the frame what a call is about to map, so that the memory can
// be told to be ours although nothing stands in it yet.
func (a *Attached) intend(nr uint64, args []uint64) error {
	if nr != unix.SYS_MMAP || len(args) < 2 || args[0] == 0 {
		return nil
	}
	b := a.remote.intent[:]
	binary.LittleEndian.PutUint64(b, args[0])
	binary.LittleEndian.PutUint64(b[8:], args[1])
	return a.memory.write(a.h, a.remote.at.Add(frameMapping), b)
}

// ClearFrame zeroes a frame that a dead tracer left. ErrBusy while a thread is in
// it, or on its way there.
func (w *World) ClearFrame(f LeftFrame) error {
	for i := range w.view {
		if sp := w.view[i].SP; f.At <= sp && sp < f.At.Add(frameMax) {
			return fmt.Errorf("pid %d: thread %d is still on its way out of a dead tracer's call: %w", w.p.Pid(), w.view[i].Tid, ErrBusy)
		}
	}
	return w.memory.write(w.h, f.At, w.scratch.zero[:min(f.Length, frameMax)])
}

// frameSlot is where the slot-th frame lies in a stack.
func frameSlot(stack proc.Mapping, slot int) address.Addr {
	return stack.Start.Add(belowFrame + int64(slot)*frameMax)
}
