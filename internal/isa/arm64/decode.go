package arm64

import "math/bits"

// immediate is "Data Processing -- Immediate" (C4.1.93).
func (i *Inst) immediate() {
	i.Operation &= 0xff800000
	switch i.field(23, 3) {
	case 0, 1:
		i.pcRelative()
	case 2:
		i.addImmediate()
	case 4:
		i.logicalImmediate()
	case 5:
		i.moveWide()
	case 6: // bitfield: shifts and extracts
		i.Kind, i.Imm = Number, int64(i.field(10, 12))
		i.Reads, i.Writes = set(i.rn()), set(i.rd())
		if i.field(29, 2) == 1 { // BFM keeps the other bits
			i.Reads |= set(i.rd())
		}
	case 7: // EXTR
		i.Kind, i.Imm = Number, int64(i.field(10, 6))
		i.Reads, i.Writes = set(i.rn(), i.rm()), set(i.rd())
	default: // tags
		i.Reads, i.Writes = set(i.rn()), set(i.rd())
	}
}

func (i *Inst) pcRelative() {
	i.Operation = i.Word & 0x9f000000
	distance := i.signed(5, 19)<<2 | int64(i.field(29, 2))
	i.Kind, i.Dest, i.Writes = Address, i.rd(), set(i.rd())
	i.Target = i.At.Add(distance)
	if i.bit(31) {
		i.Kind = Page
		i.Target = (i.At &^ 0xfff).Add(distance << 12)
	}
}

func (i *Inst) addImmediate() {
	i.Imm = int64(i.field(10, 12))
	if i.bit(22) {
		i.Imm <<= 12
	}
	i.Kind, i.Base, i.Reads, i.Writes = Number, i.rn(), set(i.rn()), set(i.rd())
	subtracts, flags := i.bit(30), i.bit(29)
	if !subtracts && !flags {
		i.Kind, i.Dest = Add, i.rd()
	}
	if subtracts && !flags && i.rd() == SP { // a frame
		i.Dest = SP
	}
}

func (i *Inst) logicalImmediate() {
	i.Kind, i.Reads, i.Writes = Number, set(i.rn()), set(i.rd())
	i.Imm = int64(bitmask(i.bit(22), i.field(16, 6), i.field(10, 6), i.bit(31)))
	if i.field(29, 2) == 1 && i.rn() == SP && i.rd() != SP { // orr from the zero register
		i.Kind, i.Dest = Move, i.rd()
	}
}

// bitmask is DecodeBitMasks (J1.3, aarch64/instrs/integer/bitmasks): a run of
// ones, rotated, repeated. 0 for what is reserved.
func bitmask(n bool, immr, imms uint32, wide bool) uint64 {
	pattern := ^imms & 0x3f
	if n {
		pattern |= 0x40
	}
	length := bits.Len32(pattern) - 1
	if length < 1 {
		return 0
	}
	size := uint(1) << length
	ones, rotate := uint(imms)&(size-1)+1, uint(immr)&(size-1)
	if ones == size {
		return 0
	}
	v := uint64(1)<<ones - 1
	if rotate > 0 {
		v = v>>rotate | v<<(size-rotate)
		if size < 64 {
			v &= 1<<size - 1
		}
	}
	for ; size < 64; size *= 2 {
		v |= v << size
	}
	if !wide {
		v &= 1<<32 - 1
	}
	return v
}

func (i *Inst) moveWide() {
	i.Dest, i.Writes = i.rd(), set(i.rd())
	i.Shift = uint8(16 * i.field(21, 2))
	v := uint64(i.field(5, 16))
	switch i.field(29, 2) {
	case 0: // MOVN
		v = ^(v << i.Shift)
		if !i.bit(31) {
			v &= 1<<32 - 1
			v = uint64(int32(v)) // what the source had was a number with a sign
		}
		i.Kind, i.Imm = Move, int64(v)
	case 2:
		i.Kind, i.Imm = Move, int64(v<<i.Shift)
	case 3:
		i.Kind, i.Imm, i.Reads = Insert, int64(v), set(i.rd())
	}
	// A move of 32 or 64 bits, by this or that half, is one operation.
	i.Operation = i.Word & 0x9f800000
}

// branch is "Branches, Exception Generating and System instructions" (C4.1.94).
func (i *Inst) branch() {
	w := i.Word
	switch {
	case w&0x7c000000 == 0x14000000: // B, BL
		i.Operation = w & 0xfc000000
		i.relative(i.signed(0, 26))
		i.Flow = FlowJump
		if i.bit(31) {
			i.Flow, i.Writes = FlowCall, set(LR)
		}
	case w&0x7e000000 == 0x34000000: // CBZ, CBNZ
		i.Operation = w & 0xff000000
		i.relative(i.signed(5, 19))
		i.Flow, i.Reads = FlowCond, set(i.rd())
	case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
		i.Operation = w & 0x7f000000
		i.relative(i.signed(5, 14))
		i.Flow, i.Kind, i.Reads = FlowCond, Number, set(i.rd())
		i.Imm = 1 << (i.field(31, 1)<<5 | i.field(19, 5))
	case w&0xff000000 == 0x54000000: // B.cond, BC.cond
		i.Operation = w & 0xff00001f
		i.relative(i.signed(5, 19))
		i.Flow = FlowCond
		if w&0xe == 0xe { // always
			i.Flow = FlowJump
		}
	case w&0xff000000 == 0xd4000000: // SVC and others, BRK
		if i.field(21, 3) == 1 || i.field(21, 3) == 2 {
			i.Flow = FlowStop
		}
	case w&0xfffff01f == 0xd503201f:
		i.Kind, i.Operation = Hint, 0xd503201f
	case w&0xffc00000 == 0xd5000000: // system registers, barriers
		i.Operation = w &^ 0x1f
		if i.bit(21) {
			i.Writes = set(i.rd())
		} else {
			i.Reads = set(i.rd())
		}
	case w&0xfe000000 == 0xd6000000:
		i.toRegister()
	}
}

// toRegister is "Unconditional branch (register)". Those that authenticate the
// pointer first are the same operation: it is the compiler's flags that choose.
func (i *Inst) toRegister() {
	opc := i.field(21, 3)
	i.Operation = 0xd61f0000 | opc<<21
	switch opc {
	case 0:
		i.Flow, i.Reads = FlowIndirectJump, set(i.rn())
	case 1:
		i.Flow, i.Reads, i.Writes = FlowIndirectCall, set(i.rn()), set(LR)
	case 2:
		i.Flow, i.Reads = FlowReturn, set(LR)
	default:
		i.Flow = FlowStop
	}
}

// register is "Data Processing -- Register" (C4.1.95).
func (i *Inst) register() {
	w := i.Word
	i.Reads, i.Writes = set(i.rn(), i.rm()), set(i.rd())
	switch w & 0x1f000000 {
	case 0x0a000000: // logical, shifted
		i.Operation = w & 0xffe00000
		i.amount(10, 6)
	case 0x0b000000: // add, subtract
		i.Operation = w & 0xffe00000
		if i.bit(21) { // extended register
			i.Operation = w & 0xffe0e000
			i.amount(10, 3)
		} else {
			i.amount(10, 6)
		}
	case 0x1a000000:
		i.conditional()
	case 0x1b000000: // multiply and add
		i.Operation = w & 0xffe08000
		i.Reads |= set(i.ra())
	}
}

func (i *Inst) amount(low, n uint) {
	if a := i.field(low, n); a != 0 {
		i.Kind, i.Imm = Number, int64(a)
	}
}

func (i *Inst) conditional() {
	i.Operation = i.Word & 0xffe0fc00
	switch i.field(21, 3) {
	case 2: // conditional compare: 0 to 3 is the flags
		i.Operation = i.Word & 0xffe0fc10
		i.Writes = 0
		if i.bit(11) {
			i.Kind, i.Imm, i.Reads = Number, int64(i.field(16, 5)), set(i.rn())
		}
	case 6:
		if i.bit(30) { // one source: what to do is where Rm would be
			i.Operation, i.Reads = i.Word&0xfffffc00, set(i.rn())
		}
	}
}

// vector is "Data Processing -- Scalar Floating-Point and Advanced SIMD" (C4.1.96),
// of which only what moves between general and vector registers touches the former.
func (i *Inst) vector() {
	w := i.Word
	i.Operation = w & 0xffe0fc00
	switch {
	case w&0x5f200000 == 0x1e000000, w&0x5f20fc00 == 0x1e200000: // conversions, FMOV
		i.Operation = w & 0xfffffc00
		switch i.field(16, 3) {
		case 2, 3, 7:
			i.Reads = set(i.rn())
		default:
			i.Writes = set(i.rd())
		}
	case w&0xbfe0fc00 == 0x0e000c00, w&0xffe0fc00 == 0x4e001c00: // DUP, INS
		i.Reads = set(i.rn())
	case w&0xbfe0f400 == 0x0e002400 || w&0xbfe0fc00 == 0x0e003c00: // SMOV, UMOV
		i.Writes = set(i.rd())
	}
}
