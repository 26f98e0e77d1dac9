package amd64

// SSE2, the vector set every x86-64 has. The legacy encodings keep the upper
// halves of ymm and zmm registers.

func sse(prefix, op byte) pattern { return pattern{prefix: prefix, op: []byte{0x0f, op}} }

// MovVec is movdqa dst, src.
func (a *Asm) MovVec(dst, src XMM) { a.rr(sse(0x66, 0x6f), uint8(dst), uint8(src)) }

// LoadVec is movdqa dst, [m]: m must be 16-byte aligned.
func (a *Asm) LoadVec(dst XMM, m Mem) { a.rm(sse(0x66, 0x6f), uint8(dst), m, 0) }

// LoadVecU is movups dst, [m].
func (a *Asm) LoadVecU(dst XMM, m Mem) { a.rm(sse(0, 0x10), uint8(dst), m, 0) }

// StoreVecU is movups [m], src.
func (a *Asm) StoreVecU(m Mem, src XMM) { a.rm(sse(0, 0x11), uint8(src), m, 0) }

// MovToVec is movd (size 4) or movq (size 8) dst, src; the rest of dst becomes 0.
func (a *Asm) MovToVec(size Size, dst XMM, src Reg) {
	f := sse(0x66, 0x6e)
	f.wide = size == 8
	a.rr(f, uint8(dst), uint8(src))
}

// MovFromVec is movd or movq dst, src.
func (a *Asm) MovFromVec(size Size, dst Reg, src XMM) {
	f := sse(0x66, 0x7e)
	f.wide = size == 8
	a.rr(f, uint8(src), uint8(dst))
}

// VecOp is a two-operand SSE2 integer instruction by its opcode after 66 0f.
type VecOp uint8

// SSE2 integer instructions.
const (
	PCmpEqB    VecOp = 0x74
	PXor       VecOp = 0xef
	PAnd       VecOp = 0xdb
	POr        VecOp = 0xeb
	PSubB      VecOp = 0xf8
	PAddQ      VecOp = 0xd4
	PSadBW     VecOp = 0xf6
	PMinUB     VecOp = 0xda
	PUnpckLBW  VecOp = 0x60
	PUnpckLWD  VecOp = 0x61
	PUnpckLQDQ VecOp = 0x6c
)

// Vec is op dst, src.
func (a *Asm) Vec(op VecOp, dst, src XMM) { a.rr(sse(0x66, byte(op)), uint8(dst), uint8(src)) }

// VecLoad is op dst, [m]: m must be 16-byte aligned.
func (a *Asm) VecLoad(op VecOp, dst XMM, m Mem) { a.rm(sse(0x66, byte(op)), uint8(dst), m, 0) }

// PShufD is pshufd dst, src, order.
func (a *Asm) PShufD(dst, src XMM, order uint8) {
	a.rr(sse(0x66, 0x70), uint8(dst), uint8(src))
	a.Raw(order)
}

// PMovMskB gathers the top bit of each of the 16 bytes of src in dst.
func (a *Asm) PMovMskB(dst Reg, src XMM) { a.rr(sse(0x66, 0xd7), uint8(dst), uint8(src)) }

// PSrlDQ shifts dst right by n bytes.
func (a *Asm) PSrlDQ(dst XMM, n uint8) {
	a.rr(sse(0x66, 0x73), 3, uint8(dst))
	a.Raw(n)
}
