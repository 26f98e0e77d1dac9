package compile

// spill keeps r elsewhere than in a register: every use gets a new register,
// set just before it.
func (l *lowerer) spill(order []*block, r reg, fixed *bitset) {
	again, only := definition(order, r)
	var s *slot
	if !only {
		s = l.newSlot(8)
	}
	fresh := func() reg {
		n := l.newReg()
		for int(n)/64 >= len(*fixed) {
			*fixed = append(*fixed, 0)
		}
		fixed.add(n)
		return n
	}
	for _, b := range order {
		var all []insn
		reload := func(o *operand) {
			if o.r != r {
				return
			}
			i := insn{op: opStackLoad, slot: s, size: 8, pos: b.pos}
			if only {
				i = again
			}
			i.dst = fresh()
			all = append(all, i)
			o.r = i.dst
		}
		for _, i := range b.insns {
			i.args = append([]operand(nil), i.args...)
			i.uses(reload)
			if i.dst == r && only {
				continue
			}
			if i.dst == r {
				i.dst = fresh()
				all = append(all, i, insn{op: opStackStore, slot: s, size: 8, b: operand{r: i.dst}, pos: i.pos})
				continue
			}
			all = append(all, i)
		}
		b.endUses(reload)
		b.insns = all
	}
}

// definition returns the instruction that sets r, if it is the only one and can
// be repeated anywhere.
func definition(order []*block, r reg) (def insn, only bool) {
	n := 0
	for _, b := range order {
		for _, i := range b.insns {
			if i.dst == r {
				def = i
				n++
			}
		}
	}
	again := def.op == opMov && def.a.isConst() || def.op == opFrameLoad || def.op == opSymbol || def.op == opRodata || def.op == opState
	return def, n == 1 && again
}
