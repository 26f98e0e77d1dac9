package insert

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Table mode: a guard's reads are plain loads, and a SIGSEGV or SIGBUS that one
// of them raises goes on where the fault table says. The handler is one for the
// process and stands in front of the program's own, which it hands everything
// else. It is installed before the commit and never taken away again: a thread
// may be in it, and the program may have read its address.
//
// The table is replaced as a whole, in the stopped world with no thread in the
// handler. It keeps the entries of all code that a thread may still be in.

// Threads is what the threads of a process say together.
type Threads struct {
	// Risk says why table mode must not be used: a fault whose signal is blocked in
	// its thread kills the process, handler or not. "" when it may.
	Risk string
	// Seccomp is the strictest mode of any thread, as in /proc/PID/status: each has
	// one of its own.
	Seccomp int
}

// SeccompStrict is the mode in which a thread may read, write and end, and not even
// read the time stamp counter (SECCOMP_MODE_STRICT of seccomp(2)).
const SeccompStrict = 1

// Survey looks at all threads. A libc blocks all signals for a moment while it starts
// a thread or forks, so that only a thread that is seen to block them each time counts:
// in a program that starts thread after thread one or the other always does.
func Survey(p *tracee.Process) (Threads, error) {
	all, blocking, err := survey(p, nil)
	for range 4 {
		if err != nil || len(blocking) == 0 {
			return all, err
		}
		time.Sleep(2 * time.Millisecond)
		all, blocking, err = survey(p, blocking)
	}
	return all, err
}

// survey looks at all threads once. blocking are those that block a fault's signal; of
// them, when some are given, those that are among these.
func survey(p *tracee.Process, among []int) (all Threads, blocking []int, err error) {
	tids, err := p.Tasks()
	if err != nil {
		return all, nil, err
	}
	const faults = 1<<(uint(unix.SIGSEGV)-1) | 1<<(uint(unix.SIGBUS)-1)
	for _, tid := range tids {
		st, err := p.Task(tid)
		if err != nil || st.State == 'Z' || st.State == 'X' {
			continue // it has ended
		}
		if all.Seccomp != SeccompStrict && st.Seccomp != 0 {
			all.Seccomp = st.Seccomp
		}
		if st.ShadowStack && all.Risk == "" {
			all.Risk = "it runs with a shadow stack"
		}
		if st.SigBlk&faults == 0 || among != nil && !slices.Contains(among, tid) {
			continue
		}
		if blocking = append(blocking, tid); all.Risk == "" {
			all.Risk = fmt.Sprintf("thread %d (%q) blocks SIGSEGV or SIGBUS", tid, st.Name)
		}
	}
	return all, blocking, nil
}

// faultTable is the change of table mode that an insertion makes.
type faultTable struct {
	in        int // arena of the handler, index in insertion.arenas
	handler   []byte
	table     []byte
	slot      int          // of the new table
	at        address.Addr // of it
	old       []byte       // table and count in the block, as the process has them
	live      bool         // the handler may be installed: the table changes in the commit
	installed bool         // by this insertion
}

// planFaults lays the new table out, and the handler where there is none.
func (in *insertion) planFaults() error {
	var ranges []jit.FaultRange
	for _, g := range in.pp.guards {
		if g.Faults == jit.Table {
			ranges = append(ranges, g.Code.Faults...)
		}
	}
	if len(ranges) == 0 {
		return nil
	}
	f := &faultTable{}
	all, err := in.allArenas()
	if err != nil {
		return err
	}
	f.in = in.handlerArena(all)
	a := in.arenas[f.in]
	if f.live = a.HasHandler(); f.live {
		kept, err := in.keptRanges(a, all)
		if err != nil {
			return err
		}
		ranges = append(ranges, kept...)
		f.old = slices.Clone(a.Handler.Block[jit.FaultsTable : jit.FaultsCount+8])
	}
	if f.table, err = jit.FaultTable(ranges); err != nil {
		return err
	}
	in.faults = f
	return f.place(a)
}

// place books the slots of handler and table.
func (f *faultTable) place(a *arena.Arena) error {
	if !f.live {
		slot, err := a.AllotCode(arena.SlotHandler, arena.Key{'h'}, handlerRoom)
		if err != nil {
			return err
		}
		code, err := jit.Handler(jit.HandlerLayout{Code: a.SlotAddr(slot), Faults: a.FaultBlock()})
		if err != nil {
			return err
		}
		if len(code) > handlerRoom {
			return fmt.Errorf("a signal handler of %d bytes: %w", len(code), arena.ErrFull)
		}
		f.handler = code
		a.Handler.Slot = slot
	}
	sum := sha256.Sum256(f.table)
	slot, err := a.AllotCode(arena.SlotTable, arena.Key(sum[:16]), len(f.table))
	if err != nil {
		return err
	}
	f.slot, f.at = slot, a.SlotAddr(slot)
	return nil
}

// handlerRoom is the most bytes the handler's code may have.
const handlerRoom = 768

// words are the table's address and length, as the block has them.
func (f *faultTable) words() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(f.at))
	return binary.LittleEndian.AppendUint64(b, uint64(len(f.table)/jit.FaultEntrySize))
}

// allArenas are the process's arenas: the insertion's own models of them, and
// those it does not touch.
func (in *insertion) allArenas() ([]*arena.Arena, error) {
	all, err := observe.Arenas(in.p)
	if err != nil {
		return nil, err
	}
	for i, a := range all {
		for _, own := range in.arenas {
			if own.Base == a.Base {
				all[i] = own
			}
		}
	}
	return all, nil
}

// handlerArena returns the index in in.arenas of the one that has the handler,
// or is to have it.
func (in *insertion) handlerArena(all []*arena.Arena) int {
	for _, a := range all {
		if !a.HasHandler() {
			continue
		}
		if i := in.arena(a); i >= 0 {
			return i
		}
		in.arenas = append(in.arenas, a)
		in.before = append(in.before, a.Snapshot())
		in.mapped = append(in.mapped, 0)
		return len(in.arenas) - 1
	}
	return 0
}

// keptRanges are the entries of the present table for code that a thread may be
// in and that this insertion does not write anew.
func (in *insertion) keptRanges(a *arena.Arena, all []*arena.Arena) ([]jit.FaultRange, error) {
	at := address.Addr(binary.LittleEndian.Uint64(a.Handler.Block[jit.FaultsTable:]))
	n := binary.LittleEndian.Uint64(a.Handler.Block[jit.FaultsCount:])
	size := n * jit.FaultEntrySize
	if n > arena.CodeSize/jit.FaultEntrySize || !a.Code().Contains(at) || at.Add(int64(size)) > a.Code().End {
		return nil, &arena.CorruptError{Base: a.Base, Msg: fmt.Sprintf("a fault table of %d entries at %v", n, at)}
	}
	b := make([]byte, size)
	if _, err := in.p.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("pid %d: fault table at %v: %w", in.p.Pid(), at, err)
	}
	var out []jit.FaultRange
	for ; len(b) > 0; b = b[jit.FaultEntrySize:] {
		start := address.Addr(binary.LittleEndian.Uint64(b))
		length := int64(binary.LittleEndian.Uint32(b[8:]))
		landing := int64(int32(binary.LittleEndian.Uint32(b[12:])))
		if in.alive(all, start) {
			out = append(out, jit.FaultRange{Start: start, End: start.Add(length), Landing: start.Add(landing)})
		}
	}
	return out, nil
}

// alive reports whether at lies in code that a thread may be in and that is not
// one of this insertion's own blocks.
func (in *insertion) alive(all []*arena.Arena, at address.Addr) bool {
	for _, a := range all {
		for i, s := range a.Slots {
			if (s.Kind == arena.SlotGuard || s.Kind == arena.SlotCaller) && s.State != arena.SlotFree && a.SlotRange(i).Contains(at) {
				return !in.writes(a, i)
			}
		}
	}
	return false
}

func (in *insertion) writes(a *arena.Arena, slot int) bool {
	for _, g := range in.pp.guards {
		if g.Place.Arena == a && a.Guards[g.Place.Index].Slot == slot {
			return true
		}
	}
	return false
}

// faultBlocks are the table, and the handler when it is new, where a has them.
func (in *insertion) faultBlocks(a *arena.Arena) []block {
	f := in.faults
	if f == nil || in.arenas[f.in] != a {
		return nil
	}
	out := []block{{at: f.at, bytes: f.table, slot: f.slot, link: -1}}
	if f.handler != nil {
		out = append(out, block{at: a.SlotAddr(a.Handler.Slot), bytes: f.handler, slot: a.Handler.Slot, link: -1})
	}
	return out
}

// edit is the change of the table of an installed handler.
func (f *faultTable) edit(a *arena.Arena) edit {
	return edit{at: a.FaultBlock().Add(jit.FaultsTable), old: f.old, new: f.words(), function: "the fault table"}
}

// installHandler puts the handler in front of the program's own dispositions,
// where it is not there yet: an earlier pie may have died before it recorded
// it, and the program may have installed its own since.
func (in *insertion) installHandler(at *tracee.Attached) error {
	a := in.arenas[in.faults.in]
	entry := a.SlotAddr(a.Handler.Slot)
	for _, s := range []struct {
		signal unix.Signal
		old    address.Addr
	}{{unix.SIGSEGV, a.FaultBlock() + jit.FaultsOldSEGV}, {unix.SIGBUS, a.FaultBlock() + jit.FaultsOldBUS}} {
		if err := installFor(at, s.signal, entry, a.Scratch(), s.old); err != nil {
			return fmt.Errorf("handler for %v: %w", s.signal, err)
		}
		in.faults.installed = true
	}
	return nil
}

// installFor does it for one signal. The old disposition is in the fault block
// before the handler can be entered.
func installFor(at *tracee.Attached, signal unix.Signal, code, scratch, old address.Addr) error {
	was := scratch.Add(sigactionSize)
	had, err := disposedOf(at, signal, was)
	if err != nil || had.handler() == code.Add(jit.HandlerEntry) {
		return err
	}
	if err := errors.Join(at.Write(old, had[:]), at.Write(scratch, disposition(had, code))); err != nil {
		return err
	}
	if _, err := at.Syscall(unix.SYS_RT_SIGACTION, uint64(signal), uint64(scratch), uint64(was), sigsetSize); err != nil {
		return err
	}
	var now sigaction
	if err := at.Read(now[:], was); err != nil || now == had {
		return err
	}
	return at.Write(old, now[:]) // the program changed it in between
}

const (
	sigactionSize = 32
	sigsetSize    = 8

	saSiginfo  = 0x00000004
	saRestorer = 0x04000000
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
	saNoDefer  = 0x40000000
)

// disposition is the handler's, instead of old.
func disposition(old sigaction, code address.Addr) []byte {
	le := binary.LittleEndian
	flags := saSiginfo | saRestorer | saOnStack | saNoDefer | old.flags()&saRestart
	b := le.AppendUint64(nil, uint64(code.Add(jit.HandlerEntry)))
	b = le.AppendUint64(b, flags)
	b = le.AppendUint64(b, uint64(code.Add(jit.HandlerRestorer)))
	return append(b, old[24:]...)
}
