package compile

// bitset is a set of registers.
type bitset []uint64

func newBitset(n int) bitset       { return make(bitset, (n+63)/64) }
func (s bitset) has(r reg) bool    { return s[r/64]&(1<<(r%64)) != 0 }
func (s bitset) add(r reg)         { s[r/64] |= 1 << (r % 64) }
func (s bitset) remove(r reg)      { s[r/64] &^= 1 << (r % 64) }
func (s bitset) copyFrom(t bitset) { copy(s, t) }
func (s bitset) union(t bitset) bool { // reports whether s grew
	grew := false
	for i, w := range t {
		if w&^s[i] != 0 {
			s[i] |= w
			grew = true
		}
	}
	return grew
}

// each calls f for every member.
func (s bitset) each(f func(reg)) {
	for i, w := range s {
		for k := 0; w != 0; k++ {
			if w&1 != 0 {
				f(reg(i*64 + k))
			}
			w >>= 1
		}
	}
}

// liveness returns the registers that are live at the end of each block, by
// block id, and removes instructions whose result nobody reads.
func liveness(order []*block, regs int) []bitset {
	in, out := make([]bitset, len(order)), make([]bitset, len(order))
	for i := range order {
		in[i], out[i] = newBitset(regs), newBitset(regs)
	}
	live := newBitset(regs)
	for changed := true; changed; {
		changed = false
		for i := len(order) - 1; i >= 0; i-- {
			b := order[i]
			for _, s := range b.succs() {
				out[i].union(in[s.id])
			}
			live.copyFrom(out[i])
			b.endUses(func(o *operand) { live.add(o.r) })
			for k := len(b.insns) - 1; k >= 0; k-- {
				step(live, &b.insns[k])
			}
			changed = in[i].union(live) || changed
		}
	}
	return out
}

// step takes live from behind i to before it. A pure instruction whose result
// is not live reads nothing, as it will be removed.
func step(live bitset, i *insn) {
	if i.dst != 0 {
		if i.pure() && !live.has(i.dst) {
			return
		}
		live.remove(i.dst)
	}
	i.uses(func(o *operand) { live.add(o.r) })
}

// sweep removes pure instructions whose result nobody reads.
func sweep(order []*block, out []bitset, regs int) {
	live := newBitset(regs)
	for n, b := range order {
		live.copyFrom(out[n])
		b.endUses(func(o *operand) { live.add(o.r) })
		kept := len(b.insns)
		for k := len(b.insns) - 1; k >= 0; k-- {
			i := b.insns[k]
			if i.dst != 0 && i.pure() && !live.has(i.dst) {
				continue
			}
			step(live, &i)
			kept--
			b.insns[kept] = i
		}
		b.insns = b.insns[kept:]
	}
}
