package amd64

import "github.com/patch-integration-engine/pie/internal/address"

// maxWalk bounds how many instructions FreeAtEntry, FlagsDead and FlagsRead look at.
const maxWalk = 4096

// FreeAtEntry returns the general registers whose value nobody reads when
// control reaches at: on every path from there, the function writes them whole
// before it reads them. code holds the function from address start on.
//
// dead are registers that, by the function's calling convention, nobody reads
// behind a call, return or jump that leaves the function: none under the System
// V psABI, since gcc's inter-procedural register allocation lets callers keep
// values in any register that the callee is known not to change. Whatever is
// not understood reads every register. rsp is never free.
func FreeAtEntry(code []byte, start, at address.Addr, dead RegSet) RegSet {
	w := walk{code: code, start: start, seen: map[address.Addr]RegSet{}}
	const all = RegSet(0xffff)
	live := RegSet(0).With(RSP)
	leaves := all &^ dead
	w.push(at, all&^live)
	for len(w.todo) > 0 {
		p := w.pop()
		asked := p.asked &^ live &^ w.seen[p.at]
		if asked == 0 {
			continue
		}
		w.seen[p.at] |= asked
		i, ok := w.decode(p.at)
		if !ok {
			return 0
		}
		live |= asked & w.step(i, asked, leaves)
	}
	return all &^ live
}

// path is one place to look at, with the registers not yet decided there.
type path struct {
	at    address.Addr
	asked RegSet
}

// walk is a walk over the instructions of one function.
type walk struct {
	code  []byte
	start address.Addr
	seen  map[address.Addr]RegSet
	todo  []path
	steps int
}

func (w *walk) push(at address.Addr, asked RegSet) {
	if asked != 0 {
		w.todo = append(w.todo, path{at, asked})
	}
}

func (w *walk) pop() path {
	p := w.todo[len(w.todo)-1]
	w.todo = w.todo[:len(w.todo)-1]
	return p
}

// inside reports whether a lies in the function.
func (w *walk) inside(a address.Addr) bool {
	return a >= w.start && uint64(a-w.start) < uint64(len(w.code))
}

func (w *walk) decode(at address.Addr) (Inst, bool) {
	if w.steps++; w.steps > maxWalk || !w.inside(at) {
		return Inst{}, false
	}
	i, err := Decode(w.code[at-w.start:], at)
	return i, err == nil
}

// step returns the registers that i, or what follows outside the function,
// reads, and queues what follows inside.
func (w *walk) step(i Inst, asked, leaves RegSet) RegSet {
	e := i.Effects()
	switch i.Flow {
	case FlowReturn, FlowSystem:
		return leaves | e.Reads
	case FlowIndirectJump, FlowCall, FlowIndirectCall:
		return leaves | e.Reads
	case FlowTrap:
		return 0xffff
	}
	if !e.Known {
		return 0xffff
	}
	reads := e.Reads
	rest := asked &^ e.Reads &^ e.Writes
	if i.Flow == FlowJump || i.Flow == FlowCond {
		if !w.inside(i.Target) {
			reads |= leaves &^ e.Writes
		} else {
			w.push(i.Target, rest)
		}
	}
	if i.Flow != FlowJump {
		if !w.inside(i.Next()) {
			return 0xffff
		}
		w.push(i.Next(), rest)
	}
	return reads
}
