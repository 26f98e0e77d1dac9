package bpf

import (
	"encoding/binary"
	"fmt"
)

// SlotSize is the bytes of an instruction slot.
const SlotSize = 8

// Decode reads little-endian instruction slots (RFC 9669, section 3.1). It
// checks only that the bytes are whole slots and that every 64-bit immediate
// load has its second slot; whether opcodes exist is for verify to say.
func Decode(b []byte) ([]Insn, error) {
	if len(b)%SlotSize != 0 {
		return nil, fmt.Errorf("bytecode: slot %d is cut off: %d of %d bytes", len(b)/SlotSize, len(b)%SlotSize, SlotSize)
	}
	insns := make([]Insn, 0, len(b)/SlotSize)
	for ; len(b) > 0; b = b[SlotSize:] {
		insns = append(insns, Insn{
			Op:  b[0],
			Dst: b[1] & 0x0f,
			Src: b[1] >> 4,
			Off: int16(binary.LittleEndian.Uint16(b[2:])),
			Imm: int32(binary.LittleEndian.Uint32(b[4:])),
		})
	}
	for pc := 0; pc < len(insns); pc = insns[pc].Next(pc) {
		if insns[pc].IsLDDW() && (pc+1 == len(insns) || insns[pc+1].Op != 0) {
			return nil, fmt.Errorf("bytecode: slot %d: lddw without its second slot", pc)
		}
	}
	return insns, nil
}

// Encode writes instructions as Decode reads them. It refuses a register
// number that does not fit its four bits.
func Encode(insns []Insn) ([]byte, error) {
	b := make([]byte, 0, len(insns)*SlotSize)
	for pc, i := range insns {
		if i.Dst > 0x0f || i.Src > 0x0f {
			return nil, fmt.Errorf("bytecode: slot %d: register numbers %d, %d do not fit four bits", pc, i.Dst, i.Src)
		}
		b = append(b, i.Op, i.Dst|i.Src<<4)
		b = binary.LittleEndian.AppendUint16(b, uint16(i.Off))
		b = binary.LittleEndian.AppendUint32(b, uint32(i.Imm))
	}
	return b, nil
}

// LoadImm64 returns the two slots that load v into dst.
func LoadImm64(dst uint8, v uint64) [2]Insn {
	return [2]Insn{{Op: OpLDDW, Dst: dst, Imm: int32(uint32(v))}, {Imm: int32(uint32(v >> 32))}}
}

// Imm64 returns the 64-bit immediate of the load in slots lo and hi.
func Imm64(lo, hi Insn) uint64 { return uint64(uint32(lo.Imm)) | uint64(uint32(hi.Imm))<<32 }
