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

// maxFramesSought bounds how far up a stack frames are looked for: 64 MiB.
const maxFramesSought = 4096

// LeftFrames looks for frames where this package puts them, in the main thread's
// stack, among the mappings maps. What a frame says is a claim of the process. One
// that the program has written to since is none any more.
func LeftFrames(p Memory, maps []proc.Mapping) []LeftFrame {
	s, ok := findStack(maps)
	if !ok {
		return nil
	}
	var left []LeftFrame
	head := make([]byte, frameXState) // in most processes all that is looked at
	var whole []byte
	at := alignDown(s.Start.Add(frameMax - 1))
	for i := 0; i < maxFramesSought && at.Add(frameXState) <= s.End; i, at = i+1, at.Add(frameMax) {
		if _, err := p.ReadAt(head, at); err != nil {
			continue
		}
		if binary.LittleEndian.Uint64(head[frameMark:]) != frameMagic {
			continue
		}
		if whole == nil {
			whole = make([]byte, frameMax)
		}
		n, _ := p.ReadAt(whole, at)
		if f, ok := parseFrame(at, whole[:n]); ok {
			left = append(left, f)
		}
	}
	return left
}

// parseFrame reads what is written on a frame beside what restores the thread.
func parseFrame(at address.Addr, b []byte) (LeftFrame, bool) {
	f := LeftFrame{At: at, Length: intactFrame(b)}
	if f.Length == 0 {
		return f, false
	}
	le := binary.LittleEndian
	start, size := address.Addr(le.Uint64(b[frameMapping:])), le.Uint64(b[frameMapping+8:])
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

// frameWay is how far the stack pointer of a thread on a frame is from its start, in
// bytes, at most: in front of the call it is at the start, and it pops three words on
// its way to rt_sigreturn(2).
const frameWay = 4 * 8

// onLeftFrame tells whether a thread with this stack pointer stands on an intact frame
// that no call of ours needs. Its tracer is dead, and what it is in front of may be any
// call, such as one that unmaps what the dead tracer had mapped: nothing that is found in the
// process can be relied on before it is out. look is of frameMax bytes.
func (m memory) onLeftFrame(tid int, look []byte, sp address.Addr) bool {
	at := alignDown(sp)
	if sp-at > frameWay {
		return false
	}
	clear(look)
	m.readUp(tid, look, at)
	return intactFrame(look) != 0
}

// checkFrames refuses a stopped world with a thread on a dead tracer's frame.
func (w *World) checkFrames() error {
	for i := range w.view {
		if w.memory.onLeftFrame(w.view[i].Tid, w.scratch.look, w.view[i].SP) {
			return fmt.Errorf("pid %d: thread %d is still on its way out of a dead tracer's call: %w", w.p.Pid(), w.view[i].Tid, ErrBusy)
		}
	}
	return nil
}

// checkFrame refuses a thread that stands on a dead tracer's frame.
func (a *Attached) checkFrame() error {
	if a.memory.onLeftFrame(a.tid, a.remote.look, address.Addr(a.remote.regs.Rsp)) {
		return a.notNow("a thread is still on its way out of a dead tracer's call")
	}
	return nil
}

// ClearFrame zeroes a frame that a dead tracer left. ErrBusy while a thread is in
// it, or on its way there. A frame that the program has written to since is left
// alone: its bytes are the program's. In one that is intact, the program has
// nothing to lose, even where its stack has come down to it again.
func (w *World) ClearFrame(f LeftFrame) error {
	for i := range w.view {
		if sp := w.view[i].SP; f.At <= sp && sp < f.At.Add(frameMax) {
			return fmt.Errorf("pid %d: thread %d is still on its way out of a dead tracer's call: %w", w.p.Pid(), w.view[i].Tid, ErrBusy)
		}
	}
	b := w.scratch.look[:min(f.Length, frameMax)]
	if err := w.memory.read(b, f.At); err != nil {
		return err
	}
	if intactFrame(b) != f.Length {
		return nil
	}
	return w.memory.write(w.h, f.At, w.scratch.zero[:f.Length])
}
