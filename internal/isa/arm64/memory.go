package arm64

// loadStore is "Loads and Stores" (C4.1.97).
func (i *Inst) loadStore() {
	w := i.Word
	switch {
	case w&0x3b000000 == 0x18000000:
		i.literal()
	case w&0x3a000000 == 0x28000000:
		i.pair()
	case w&0x3b000000 == 0x39000000:
		i.memory(0xffc00000, int64(i.field(10, 12))<<i.scale())
		i.single()
	case w&0x3b200000 == 0x38000000: // unscaled, and those that change the base
		i.memory(0xffe00c00, i.signed(12, 9))
		i.single()
		if i.bit(10) {
			i.Writes |= set(i.Base)
		}
		if i.field(10, 2) == 0 { // it is chosen only where the scaled one cannot do
			i.Operation = w&0xffc00000 | 1<<24
		}
	case w&0x3b200c00 == 0x38200800: // register offset
		i.memory(0xffe0ec00, 0)
		i.single()
		i.Index = true
		i.Reads |= set(i.rm())
	case w&0x3b200c00 == 0x38200000: // atomic
		i.memory(0xffe0fc00, 0)
		i.Reads |= set(i.rm())
		i.Writes = set(i.rd())
	case w&0x3f000000 == 0x08000000:
		i.exclusive()
	case w&0x3e000000 == 0x0c000000: // vectors of structures
		i.memory(0xffe0fc00, 0)
		if i.bit(23) {
			i.Writes = set(i.Base)
		}
	case w&0x3f200c00 == 0x19000000: // LDAPUR, STLUR
		i.memory(0xffe00c00, i.signed(12, 9))
		i.single()
	default:
		i.memory(0xffe00c00, 0)
	}
}

func (i *Inst) memory(mask uint32, disp int64) {
	i.Operation = i.Word & mask
	i.Kind, i.Base, i.Imm = Memory, i.rn(), disp
	i.Reads = set(i.Base)
}

// single is the register of a load or store of one: bits 23:22 say which.
func (i *Inst) single() {
	opc := i.field(22, 2)
	switch {
	case i.bit(26): // a vector register
	case opc == 0:
		i.Reads |= set(i.rd())
	case opc == 2 && i.field(30, 2) == 3: // prefetch
	default:
		i.Writes, i.Dest = set(i.rd()), i.rd()
	}
}

// scale is by what the displacement is shifted: the size accessed.
func (i *Inst) scale() uint32 {
	scale := i.field(30, 2)
	if i.bit(26) && i.bit(23) {
		scale += 4
	}
	return scale
}

func (i *Inst) literal() {
	i.Operation = i.Word & 0xff000000
	i.relative(i.signed(5, 19))
	i.Kind = Literal
	if !i.bit(26) && i.field(30, 2) != 3 {
		i.Dest, i.Writes = i.rd(), set(i.rd())
	}
}

func (i *Inst) pair() {
	scale := 2 + i.field(31, 1)
	if i.bit(26) {
		scale = 2 + i.field(30, 2)
	}
	i.memory(0xffc00000, i.signed(15, 7)<<scale)
	if !i.bit(26) {
		if two := set(i.rd(), i.ra()); i.bit(22) {
			i.Writes = two
		} else {
			i.Reads |= two
		}
	}
	if i.bit(23) { // pre- or post-index
		i.Writes |= set(i.Base)
	}
}

// exclusive is "Load/store exclusive" and "ordered", and compare and swap.
func (i *Inst) exclusive() {
	i.memory(0xffe08000, 0)
	ordered, pair := i.bit(23), i.bit(21)
	switch two := set(i.rd(), i.ra()); {
	case ordered && pair: // CAS
		i.Reads |= set(i.rd(), i.rm())
		i.Writes = set(i.rm())
	case i.bit(22):
		i.Writes = set(i.rd())
		if pair {
			i.Writes = two
		}
	default:
		i.Reads |= set(i.rd())
		if pair {
			i.Reads |= two
		}
		if !ordered {
			i.Writes = set(i.rm()) // whether it was stored
		}
	}
}
