package verify

import (
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// A kind is what a register or stack slot holds.
type kind uint8

const (
	kindUninit kind = iota // not written on some path
	kindMixed              // different kinds on different paths
	kindScalar             // num is the number
	kindFrame              // num is the offset from the frame
	kindStack              // num is the offset from r10 of the function at depth base
	kindRodata             // num is the offset in Unit.Rodata
	kindState              // num is the offset in the prepatch's state
	kindSymbol             // num is the offset from symbol base of the target
)

var kindNames = [...]string{
	kindUninit: "nothing", kindMixed: "different things", kindScalar: "a number", kindFrame: "the frame's address",
	kindStack: "a stack address", kindRodata: "a rodata address", kindState: "a state address", kindSymbol: "the address of a symbol",
}

func (k kind) String() string { return kindNames[k] }

// A value is what is known about a register or stack slot. kindUninit and
// kindMixed stand for anything, and may not be read.
type value struct {
	kind  kind
	moves uint8 // how often a loop head had to widen num, in the states kept there
	base  int32
	// id links nums at known distances, of numbers and of addresses: each is the
	// same unknown number plus its delta (modulo 2⁶⁴), so that what a comparison
	// tells about one it tells about all. 0 is no link.
	id    uint32
	delta uint64
	num   scalar.Set
}

func number(s scalar.Set) value { return value{kind: kindScalar, num: s} }
func constant(v uint64) value   { return number(scalar.Const(v)) }

// readable reports whether v is something on every path.
func (v value) readable() bool { return v.kind > kindMixed }

// pointer reports whether v is an address of the guard's own memory. The
// address of a symbol is a number of the target.
func (v value) pointer() bool {
	return v.kind == kindFrame || v.kind == kindStack || v.kind == kindRodata || v.kind == kindState
}

// asNumber is v as an operand of arithmetic: the address of a symbol can be any.
func (v value) asNumber() value {
	if v.kind == kindSymbol {
		return number(scalar.Top())
	}
	return v
}

func (v value) sameBase(w value) bool { return v.kind == w.kind && v.base == w.base }

// leq reports whether every content that v allows is allowed by w. Links are
// compared by the states.
func (v *value) leq(w *value) bool {
	switch {
	case !w.readable():
		return true
	case v.kind == w.kind && v.base == w.base:
		return v.num.Leq(w.num)
	case v.kind == kindSymbol && w.kind == kindScalar:
		return v.asNumber().num.Leq(w.num)
	}
	return false
}

// join is a value that allows what v and w allow, without a link.
func (v value) join(w value) value {
	return v.merge(w, scalar.Set.Join)
}

// widen is join for loop heads: chains of it are short.
func (v value) widen(w value, t *scalar.Thresholds) value {
	return v.merge(w, func(a, b scalar.Set) scalar.Set { return scalar.Widen(a, b, t) })
}

// surrender is join for loop heads that widening has not settled: a number
// that moves can be any.
func (v value) surrender(w value) value {
	return v.merge(w, func(a, b scalar.Set) scalar.Set {
		if b.Leq(a) {
			return a
		}
		return scalar.Top()
	})
}

func (v value) merge(w value, numbers func(a, b scalar.Set) scalar.Set) value {
	switch {
	case v.kind == kindUninit || w.kind == kindUninit:
		return value{}
	case v.sameBase(w) && v.kind != kindMixed:
		return value{kind: v.kind, base: v.base, num: numbers(v.num, w.num)}
	case (v.kind == kindScalar || v.kind == kindSymbol) && (w.kind == kindScalar || w.kind == kindSymbol):
		return number(scalar.Top())
	}
	return value{kind: kindMixed}
}

// A key says what a number is a known distance from: the number that its link
// stands for, or 0 for a constant.
type key struct {
	id     uint32
	offset uint64
}

// linkable reports whether v's num may be linked to others.
func (v value) linkable() bool { return v.kind == kindScalar || v.pointer() }

// key returns v's; ok is false when v is no known distance from anything.
func (v value) key() (k key, ok bool) {
	if !v.linkable() {
		return key{}, false
	}
	if c, ok := v.num.Const(); ok {
		return key{offset: c}, true
	}
	return key{v.id, v.delta}, v.id != 0
}

// plus is the sum of v and the number w, exactly; sum is what is known of it.
// The sum of a linked and a constant num is linked.
func (v value) plus(w value, sum scalar.Set) value {
	out := value{kind: v.kind, base: v.base, num: sum}
	kv, ok1 := v.key()
	kw, ok2 := w.key()
	if _, known := sum.Const(); !known && ok1 && ok2 && (kv.id == 0 || kw.id == 0) {
		out.id, out.delta = kv.id|kw.id, kv.offset+kw.offset
	}
	return out
}

// minus is the difference of v and the constant c, exactly.
func (v value) minus(c uint64, difference scalar.Set) value {
	return v.plus(constant(-c), difference)
}
