package plan

import (
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// maxKeptStack is the most bytes of stack that kept instructions may take. A
// function that takes more probes the pages in between itself; a guard that
// pushes below them would skip a thread's guard page.
const maxKeptStack = 2048

// keeper collects the instructions that stay in front of a site, and how a
// reject undoes them.
type keeper struct {
	arguments, calleeSaved amd64.RegSet

	kept         []amd64.Inst
	size         int
	spDelta      int32
	changesFlags bool
	copies       bool // the last one kept computes from an argument
	steps        []undoStep
	pushedResult amd64.RegSet // pushed, and not popped by undo
}

// undoStep takes back one change of rsp: it pops a register, or drops n bytes.
type undoStep struct {
	pop amd64.Reg
	n   int32
}

// keep adds i and reports true if a guard may run behind it as if it had not
// run: arguments, callee-saved registers and visible memory are as at the
// entry, or undo brings them back; and it cannot fault. What computes from an
// argument runs again behind the guards, since a guard may rewrite the argument;
// nothing is kept behind it.
func (k *keeper) keep(i amd64.Inst) bool {
	e := i.Effects()
	if !e.Known || i.Flow != amd64.FlowNext || !e.SPKnown || e.X87 || k.copies {
		return false
	}
	if r, ok := i.Pushed(); ok {
		if k.arguments.Has(r) {
			return false
		}
		k.push(r)
	} else if e.SPDelta != 0 {
		if !k.moveSP(e) {
			return false
		}
	} else if !k.harmless(e) {
		return false
	} else if e.Reads&k.arguments != 0 && e.Writes != 0 {
		if k.copies = idempotent(e); !k.copies {
			return false
		}
	}
	k.kept = append(k.kept, i)
	k.size += i.Len
	k.changesFlags = k.changesFlags || e.ChangesFlags
	return true
}

// harmless reports an instruction that leaves rsp alone and only computes into
// registers that are the function's own to change.
func (k *keeper) harmless(e amd64.Effects) bool {
	own := k.restored() | ^(k.arguments | k.calleeSaved | amd64.Set(amd64.RSP))
	const safe = amd64.MemStack | amd64.MemRIP | amd64.MemThread
	return e.Writes&^own == 0 && e.Stores == 0 && e.Loads&^safe == 0
}

// idempotent reports an instruction that may run twice: it reads nothing that
// it writes, flags included, and stores nothing.
func idempotent(e amd64.Effects) bool {
	return e.Writes&e.Reads == 0 && e.Stores == 0 && e.SPDelta == 0 && !e.ReadsFlags
}

// push keeps a push. What a function pushes it gives back, and some callers rely on that
// beyond the psABI (clang's preserve_most and preserve_all, assembly by hand): a reject
// pops it, but for rax, which may hold the result.
func (k *keeper) push(r amd64.Reg) {
	step := undoStep{pop: r, n: 8}
	if r == amd64.RAX {
		step.pop = amd64.NoReg
		k.pushedResult = k.pushedResult.With(r)
	}
	k.steps = append(k.steps, step)
	k.spDelta += 8
}

// moveSP keeps `sub $n, %rsp` and its like.
func (k *keeper) moveSP(e amd64.Effects) bool {
	n := -e.SPDelta
	if n <= 0 || n+int64(k.spDelta) > maxKeptStack {
		return false
	}
	if e.Writes != amd64.Set(amd64.RSP) || e.Loads != 0 || e.Stores != 0 {
		return false // push of memory or an immediate, pop
	}
	k.steps = append(k.steps, undoStep{pop: amd64.NoReg, n: int32(n)})
	k.spDelta += int32(n)
	return true
}

// restored are the registers that undo pops.
func (k *keeper) restored() amd64.RegSet {
	var s amd64.RegSet
	for _, step := range k.steps {
		s = s.With(step.pop)
	}
	return s
}

// repeatable returns the last kept instruction if it may run again and no other
// one sets the flags: running it once more brings them back.
func (k *keeper) repeatable() []amd64.Inst {
	n := len(k.kept) - 1
	for _, i := range k.kept[:n] {
		if i.Effects().ChangesFlags {
			return nil
		}
	}
	if !idempotent(k.kept[n].Effects()) {
		return nil
	}
	return k.instructions()[n:]
}

// instructions returns a copy of what is kept.
func (k *keeper) instructions() []amd64.Inst { return append([]amd64.Inst(nil), k.kept...) }

// undo returns the machine code that takes the stack back to the entry. A pop
// also restores the register, whatever a guard or a later kept instruction
// made of it; neither form touches a register that may hold a result.
func (k *keeper) undo() []byte {
	var code []byte
	for n := len(k.steps) - 1; n >= 0; n-- {
		if step := k.steps[n]; step.pop != amd64.NoReg {
			code = append(code, popReg(step.pop)...)
		} else {
			code = append(code, dropStack(step.n)...)
		}
	}
	return code
}

// popReg is pop r.
func popReg(r amd64.Reg) []byte {
	if r >= 8 {
		return []byte{0x41, 0x58 + byte(r-8)}
	}
	return []byte{0x58 + byte(r)}
}

// dropStack is lea n(%rsp), %rsp, which keeps the flags.
func dropStack(n int32) []byte {
	if n < 128 {
		return []byte{0x48, 0x8d, 0x64, 0x24, byte(n)}
	}
	u := uint32(n)
	return []byte{0x48, 0x8d, 0xa4, 0x24, byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24)}
}
