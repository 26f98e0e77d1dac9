package amd64

import "github.com/patch-integration-engine/pie/internal/address"

// FlagsDead reports whether nobody reads the status flags that control brings
// to at: the straight line of code from there overwrites all of them first, or
// leaves the function (no calling convention passes flags). code holds the
// function from address start on.
func FlagsDead(code []byte, start, at address.Addr) bool {
	w := walk{code: code, start: start}
	for {
		i, ok := w.decode(at)
		if !ok {
			return false
		}
		e := i.Effects()
		switch i.Flow {
		case FlowReturn, FlowCall, FlowIndirectCall, FlowIndirectJump:
			return true
		case FlowJump:
			if !w.inside(i.Target) {
				return true
			}
			at = i.Target
			continue
		case FlowTrap, FlowSystem, FlowCond:
			return false
		}
		if !e.Known || e.ReadsFlags {
			return false
		}
		if e.KillsFlags {
			return true
		}
		at = i.Next()
	}
}

// FlagsRead returns an instruction that reads a status flag as control brought it
// to at, if some way through the function leads to one. Compilers make no such
// function, for no calling convention passes flags; people who write assembly do:
// libcrypto's multiplication of 512-bit numbers begins with a carry of its caller's.
// code holds the function from address start on.
//
// It is no proof of the contrary: a way ends where an instruction is not understood,
// where it leaves the function, and where some flag is written (inc and dec, which
// leave the carry alone, excepted).
func FlagsRead(code []byte, start, at address.Addr) (reader Inst, read bool) {
	w := flagWalk{walk: walk{code: code, start: start}, seen: map[address.Addr]flagSet{}}
	w.push(at, carry|others)
	for len(w.todo) > 0 {
		p := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		asked := p.asked &^ w.seen[p.at]
		if asked == 0 {
			continue
		}
		w.seen[p.at] |= asked
		i, ok := w.decode(p.at)
		if !ok {
			continue
		}
		if w.reads(i, asked) {
			return i, true
		}
		w.follow(i, asked)
	}
	return Inst{}, false
}

// flagSet is a set of status flags: the carry is apart, since inc and dec keep it.
type flagSet uint8

const (
	carry flagSet = 1 << iota
	others
)

type flagWalk struct {
	walk
	seen map[address.Addr]flagSet
	todo []flagPath
}

// flagPath is one place to look at, with the flags that are still the caller's there.
type flagPath struct {
	at    address.Addr
	asked flagSet
}

func (w *flagWalk) push(at address.Addr, asked flagSet) {
	if asked != 0 && w.inside(at) {
		w.todo = append(w.todo, flagPath{at, asked})
	}
}

// reads reports whether i reads one of the flags.
func (w *flagWalk) reads(i Inst, asked flagSet) bool {
	if i.enc.space == spaceOne && (i.enc.opcode == 0x9c || i.enc.opcode == 0x9f) { // pushf, lahf
		return true
	}
	e := i.Effects()
	return e.Known && e.ReadsFlags && (asked&others != 0 || i.readsCarry())
}

// follow queues where control goes from i while flags are still the caller's.
func (w *flagWalk) follow(i Inst, asked flagSet) {
	e := i.Effects()
	switch {
	case i.Flow == FlowJump:
		w.push(i.Target, asked)
		return
	case !i.Falls() || !e.Known:
		return
	case e.ChangesFlags && i.keepsCarry():
		asked &= carry
	case e.ChangesFlags:
		return
	}
	if i.Flow == FlowCond {
		w.push(i.Target, asked)
	}
	w.push(i.Next(), asked)
}

// keepsCarry reports inc and dec.
func (i Inst) keepsCarry() bool {
	op := i.enc.opcode
	return i.enc.space == spaceOne && (op == 0xfe || op == 0xff) && i.enc.modrm>>3&7 <= 1
}

// readsCarry reports, of an instruction that reads flags, whether the carry is one
// of them.
func (i Inst) readsCarry() bool {
	op := i.enc.opcode
	switch i.enc.space {
	case spaceOne:
		return op < 0x40 || op >= 0x80 && op <= 0x83 || op >= 0xc0 && op <= 0xd3 || op == 0xf5 || conditionOnCarry(op)
	case space0F:
		return conditionOnCarry(op)
	case space0F38:
		return i.enc.size16 // adcx; adox reads the overflow flag
	}
	return true
}

// conditionOnCarry is of jcc, setcc and cmovcc: b, ae, be and a (SDM volume 1, appendix B).
func conditionOnCarry(op byte) bool {
	condition := op & 0xf
	return condition == 2 || condition == 3 || condition == 6 || condition == 7
}
