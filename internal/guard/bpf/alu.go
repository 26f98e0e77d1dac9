package bpf

import "math/bits"

// ALU computes the arithmetic instruction i (class ALU or ALU64) on its operands:
// dst the old value of Dst, src that of Src or the sign-extended Imm. 32-bit
// forms zero the upper half (RFC 9669, section 4.1). Division by zero gives 0
// and a remainder by zero leaves dst; a shift counts modulo its width, also an
// immediate one (verify refuses those, the public suite expects this). ok is
// false when the operation does not exist.
func ALU(i Insn, dst, src uint64) (v uint64, ok bool) {
	wide := i.Class() == ClassALU64
	switch i.Operation() {
	case AluEND:
		return byteSwap(i, dst) // be64 is of class ALU and keeps 64 bits
	case AluMOV:
		v, ok = move(i.Off, src, wide)
	case AluDIV, AluMOD:
		v, ok = divide(i, dst, src, wide)
	default:
		if wide {
			v, ok = alu64(i.Operation(), dst, src)
		} else {
			v, ok = alu32(i.Operation(), uint32(dst), uint32(src))
		}
	}
	if !wide {
		v = uint64(uint32(v))
	}
	return v, ok
}

func alu64(op uint8, dst, src uint64) (uint64, bool) {
	switch op {
	case AluADD:
		return dst + src, true
	case AluSUB:
		return dst - src, true
	case AluMUL:
		return dst * src, true
	case AluOR:
		return dst | src, true
	case AluAND:
		return dst & src, true
	case AluXOR:
		return dst ^ src, true
	case AluLSH:
		return dst << (src & 63), true
	case AluRSH:
		return dst >> (src & 63), true
	case AluARSH:
		return uint64(int64(dst) >> (src & 63)), true
	case AluNEG:
		return -dst, true
	}
	return 0, false
}

func alu32(op uint8, dst, src uint32) (uint64, bool) {
	switch op {
	case AluLSH:
		return uint64(dst << (src & 31)), true
	case AluRSH:
		return uint64(dst >> (src & 31)), true
	case AluARSH:
		return uint64(uint32(int32(dst) >> (src & 31))), true
	}
	return alu64(op, uint64(dst), uint64(src))
}

// move is MOV, sign-extending from the low off bits unless off is 0.
func move(off int16, src uint64, wide bool) (uint64, bool) {
	switch {
	case off == 0:
		return src, true
	case off == 8:
		return uint64(int8(src)), true
	case off == 16:
		return uint64(int16(src)), true
	case off == 32 && wide:
		return uint64(int32(src)), true
	}
	return 0, false
}

func divide(i Insn, dst, src uint64, wide bool) (uint64, bool) {
	if i.Off == 1 {
		if !wide {
			dst, src = uint64(int32(dst)), uint64(int32(src))
		}
		return divideSigned(i.Operation() == AluMOD, int64(dst), int64(src)), true
	}
	if !wide {
		dst, src = uint64(uint32(dst)), uint64(uint32(src))
	}
	switch {
	case i.Operation() == AluMOD && src == 0:
		return dst, true
	case i.Operation() == AluMOD:
		return dst % src, true
	case src == 0:
		return 0, true
	}
	return dst / src, true
}

// divideSigned truncates towards zero; the smallest number by −1 is itself.
func divideSigned(mod bool, dst, src int64) uint64 {
	switch {
	case mod && src == 0:
		return uint64(dst)
	case mod && src == -1, !mod && src == 0:
		return 0
	case mod:
		return uint64(dst % src)
	case src == -1:
		return -uint64(dst)
	}
	return uint64(dst / src)
}

// byteSwap is END: class ALU converts to little endian (SrcK: truncates) or big
// endian (SrcX); class ALU64 swaps always.
func byteSwap(i Insn, dst uint64) (uint64, bool) {
	swap := i.Class() == ClassALU64 || i.Op&SrcX != 0
	switch {
	case i.Imm == 16 && swap:
		return uint64(bits.ReverseBytes16(uint16(dst))), true
	case i.Imm == 16:
		return uint64(uint16(dst)), true
	case i.Imm == 32 && swap:
		return uint64(bits.ReverseBytes32(uint32(dst))), true
	case i.Imm == 32:
		return uint64(uint32(dst)), true
	case i.Imm == 64 && swap:
		return bits.ReverseBytes64(dst), true
	case i.Imm == 64:
		return dst, true
	}
	return 0, false
}

// Compare reports whether the conditional jump i is taken for the operands dst
// and src (RFC 9669, section 4.3). Class JMP32 compares the low halves.
func Compare(i Insn, dst, src uint64) bool {
	sdst, ssrc := int64(dst), int64(src)
	if i.Class() == ClassJMP32 {
		dst, src = uint64(uint32(dst)), uint64(uint32(src))
		sdst, ssrc = int64(int32(dst)), int64(int32(src))
	}
	switch i.Operation() {
	case JmpEQ:
		return dst == src
	case JmpNE:
		return dst != src
	case JmpSET:
		return dst&src != 0
	case JmpGT:
		return dst > src
	case JmpGE:
		return dst >= src
	case JmpLT:
		return dst < src
	case JmpLE:
		return dst <= src
	case JmpSGT:
		return sdst > ssrc
	case JmpSGE:
		return sdst >= ssrc
	case JmpSLT:
		return sdst < ssrc
	case JmpSLE:
		return sdst <= ssrc
	}
	return false
}
