package amd64

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// maxReturned is how many different results Returned tells apart.
const maxReturned = 16

// Returned returns the values, ascending, that the function in code, which
// starts at start, leaves in eax on every path to a return. It is false where they
// are not a few constants: a result computed, a tail call, a jump through a table.
func Returned(code []byte, start address.Addr) ([]int32, bool) {
	w := walk{code: code, start: start}
	states := map[address.Addr]results{}
	todo := []address.Addr{start}
	states[start] = results{any: true}
	var out results
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		i, ok := w.decode(at)
		if !ok {
			return nil, false
		}
		after := states[at].through(i)
		next, leaves := w.successors(i)
		if leaves || i.Flow == FlowReturn && after.any {
			return nil, false
		}
		if i.Flow == FlowReturn {
			out = out.join(after)
		}
		for _, n := range next {
			old, seen := states[n]
			if joined := old.join(after); !seen || !joined.same(old) {
				states[n] = joined
				todo = append(todo, n)
			}
		}
	}
	if out.any || len(out.values) == 0 {
		return nil, false
	}
	return out.values, true
}

// successors returns where control goes inside the function, and whether it
// can leave it other than by a return.
func (w *walk) successors(i Inst) (next []address.Addr, leaves bool) {
	switch i.Flow {
	case FlowReturn, FlowTrap:
		return nil, false
	case FlowIndirectJump:
		return nil, true
	case FlowJump, FlowCond:
		if !w.inside(i.Target) {
			return nil, true
		}
		next = append(next, i.Target)
	}
	if i.Flow != FlowJump && w.inside(i.Next()) {
		next = append(next, i.Next())
	}
	return next, false // a call at the very end does not return
}

// results is what eax may hold: one of values, or anything.
type results struct {
	any    bool
	truth  bool    // with any: al is 0 or 1
	values []int32 // ascending
}

func (r results) same(o results) bool {
	return r.any == o.any && r.truth == o.truth && slices.Equal(r.values, o.values)
}

// join returns what eax may hold where two paths meet; the zero value stands
// for no path.
func (r results) join(o results) results {
	if !r.any && len(r.values) == 0 {
		return o
	}
	if r.any || o.any {
		return results{any: true, truth: r.truth && o.truth}
	}
	return ofValues(append(slices.Clone(r.values), o.values...))
}

func ofValues(v []int32) results {
	slices.Sort(v)
	if v = slices.Compact(v); len(v) > maxReturned {
		return results{any: true}
	}
	return results{values: v}
}

// each returns the results of f for every value.
func (r results) each(f func(int32) int32) results {
	if r.any {
		return results{any: true}
	}
	v := make([]int32, len(r.values))
	for n := range v {
		v[n] = f(r.values[n])
	}
	return ofValues(v)
}

// through returns what eax may hold behind i.
func (r results) through(i Inst) results {
	e := &i.enc
	switch i.Flow {
	case FlowCall, FlowIndirectCall, FlowSystem:
		return results{any: true}
	}
	effects := i.Effects()
	if !effects.Known || !effects.Writes.Has(RAX) {
		if !effects.Known && i.Flow == FlowNext {
			return results{any: true}
		}
		return r
	}
	switch e.space {
	case spaceOne:
		return r.throughOne(e)
	case space0F:
		switch {
		case e.opcode >= 0x90 && e.opcode <= 0x9f: // setcc %al
			if slices.Equal(r.values, []int32{0}) {
				return results{values: []int32{0, 1}}
			}
			return results{any: true, truth: true}
		case e.opcode == 0xb6 && e.isReg() && e.rm() == RAX && e.reg() == RAX: // movzbl %al,%eax
			if r.truth {
				return results{values: []int32{0, 1}}
			}
			return r.each(func(v int32) int32 { return v & 0xff })
		}
	}
	return results{any: true}
}

// throughOne is through for the one-byte map: eax is the destination.
func (r results) throughOne(e *encoding) results {
	imm := int32(0)
	if e.immLen > 0 {
		imm = int32(e.immediate())
	}
	if e.size16 || e.opcode == 0x80 || e.opcode&1 == 0 && e.opcode < 0x40 {
		return results{any: true}
	}
	switch op := e.opcode; {
	case op >= 0xb8 && op <= 0xbf, op == 0xc7:
		return results{values: []int32{imm}}
	case (op == 0x31 || op == 0x33 || op == 0x29 || op == 0x2b) && e.isReg() && e.rm() == e.reg():
		return results{values: []int32{0}}
	case op == 0x19 && e.isReg() && e.rm() == e.reg(): // sbb %eax,%eax
		return results{values: []int32{-1, 0}}
	case op == 0x81, op == 0x83:
		return r.arithmetic(e.modrm>>3&7, imm)
	case op < 0x40 && op&7 == 5: // with an immediate, eax implied
		return r.arithmetic(op>>3, imm)
	case op == 0xf7 && e.modrm>>3&7 == 2:
		return r.each(func(v int32) int32 { return ^v })
	case op == 0xf7 && e.modrm>>3&7 == 3:
		return r.each(func(v int32) int32 { return -v })
	}
	return results{any: true}
}

func (r results) arithmetic(kind byte, imm int32) results {
	switch kind {
	case aluAdd:
		return r.each(func(v int32) int32 { return v + imm })
	case aluSub:
		return r.each(func(v int32) int32 { return v - imm })
	case aluAnd:
		if imm == 0 {
			return results{values: []int32{0}}
		}
		return r.each(func(v int32) int32 { return v & imm })
	case aluOr:
		if imm == -1 {
			return results{values: []int32{-1}}
		}
		return r.each(func(v int32) int32 { return v | imm })
	case aluXor:
		return r.each(func(v int32) int32 { return v ^ imm })
	}
	return results{any: true}
}
