package fingerprint

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/bits"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// amd64Machine reads x86-64 code.
type amd64Machine struct{}

func (amd64Machine) read(r *bodyReader) bool { return r.m.code(r.at, r.size, r.instruction) }

// code decodes instruction by instruction, within the module's budget.
func (m *Module) code(at address.Vaddr, size uint64, visit func(in *amd64.Inst)) (whole bool) {
	b := m.image.code(at, size)
	in := &m.inst // one for all: visit would make it escape
	for off := 0; off < len(b); {
		if m.left--; m.left < 0 {
			return false
		}
		if in.Decode(b[off:], address.Addr(at)+address.Addr(off)) != nil {
			return false
		}
		visit(in)
		off += in.Len
	}
	return uint64(len(b)) == size
}

func (r *bodyReader) instruction(in *amd64.Inst) {
	if in.IsNop() || in.IsEndbr() {
		return
	}
	r.b.insns++
	o := in.Operands()
	r.control(in)
	r.exactly(in, &o)
	r.operands(in, &o)
	r.operation(token(&o))
}

func (r *bodyReader) control(in *amd64.Inst) {
	to := address.Vaddr(in.Target)
	switch in.Flow {
	case amd64.FlowCall:
		r.calls++
		r.refer(to)
		r.handOver(true)
	case amd64.FlowIndirectCall:
		r.calls++
		r.handOver(true)
	case amd64.FlowCond, amd64.FlowJump:
		r.handOver(in.Flow == amd64.FlowJump && !r.inside(to)) // a call at the end
		if in.Flow == amd64.FlowCond {
			r.jumps++
		}
		switch {
		case !r.inside(to):
			r.refer(to)
			r.away = append(r.away, departure{to, in.Flow == amd64.FlowCond})
		case in.Target <= in.Addr:
			r.loops++
		}
	}
}

// exactly adds the instruction to the hash of the code, without what the linker
// fills in: targets outside, addresses relative to rip, absolute addresses.
func (r *bodyReader) exactly(in *amd64.Inst, o *amd64.Operands) {
	code := in.Bytes()
	from, n := 0, 0
	switch {
	case in.Flow == amd64.FlowCall, (in.Flow == amd64.FlowJump || in.Flow == amd64.FlowCond) && !r.inside(address.Vaddr(in.Target)):
		from, n = o.ImmOff, o.ImmLen
	case in.RIPRel:
		from, n = o.DispOff, o.DispLen
	case o.DispLen == 4 && r.isAddress(o.Disp):
		from, n = o.DispOff, 4
	case o.ImmLen >= 4 && r.isAddress(o.Imm):
		from, n = o.ImmOff, o.ImmLen
	}
	h := r.hash
	for i, c := range code {
		if i >= from && i < from+n {
			c = 0
		}
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	r.hash = h
}

// isAddress tells whether a number is an address of a program that is linked to
// a fixed place, which are never small.
func (r *bodyReader) isAddress(v int64) bool {
	return v >= 0x10000 && r.m.image.segment(address.Vaddr(v)) != nil
}

// operands adds what the numbers in the instruction tell.
func (r *bodyReader) operands(in *amd64.Inst, o *amd64.Operands) {
	branch := in.Flow == amd64.FlowCall || in.Flow == amd64.FlowJump || in.Flow == amd64.FlowCond
	if in.RIPRel {
		r.address(address.Vaddr(in.Mem), o.Operation&0xff != lea)
	} else if o.HasMem {
		r.memory(o)
	}
	if branch || o.ImmLen == 0 {
		return
	}
	switch {
	case o.ImmLen >= 4 && r.isAddress(o.Imm):
		r.address(address.Vaddr(o.Imm), false)
	case o.Imm < -1 || o.Imm > 1:
		if o.Operation&0x7ff == stackAdjust && !o.HasMem {
			return
		}
		r.add(numberFeature(KindImmediate, uint64(o.Imm)))
	}
}

// lea is the operation that takes an address and does not load from it.
const lea = 0x8d

// stackAdjust is the operation of sub $n, …: its operand is mostly the size of
// the frame, which every compiler chooses anew.
const stackAdjust = 0x81 | 5<<8

func (r *bodyReader) memory(o *amd64.Operands) {
	switch {
	case o.DispLen == 4 && r.isAddress(o.Disp):
		r.address(address.Vaddr(o.Disp), false)
	case o.Base == amd64.RSP || o.Base == amd64.NoReg && o.Index == amd64.NoReg:
	case o.Disp != 0 && (o.Base != amd64.RBP || o.Disp > 0):
		r.add(numberFeature(KindField, uint64(o.Disp)))
	}
}

// token is the operation with the kind of its operand in memory.
func token(o *amd64.Operands) uint64 {
	token := uint64(o.Operation)
	switch {
	case o.HasMem && (o.Base == amd64.RSP):
		token |= 1 << 32
	case o.HasMem && o.Index != amd64.NoReg:
		token |= 2 << 32
	case o.HasMem && o.Base == amd64.NoReg:
		token |= 3 << 32
	case o.HasMem:
		token |= 4 << 32
	}
	return token
}

// calls looks at every byte e8 and e9 whose distance leads to the start of a
// function, which is nearly always a call, instead of decoding everything: that
// takes a tenth of the time.
func (amd64Machine) calls(m *Module, starts *starts, i int, out []int32) []int32 {
	f := &m.funcs[i]
	b := m.image.code(f.at, f.size)
	slots := len(m.image.own) > 0
	for off := 0; off+5 <= len(b); off++ {
		if off+8 <= len(b) {
			next := nextCall(binary.LittleEndian.Uint64(b[off:]), slots)
			if off += next; next == 8 || off+5 > len(b) {
				off--
				continue
			}
		}
		j := -1
		switch {
		case b[off]&0xfe == 0xe8:
			to := f.at.Add(int64(off) + 5 + int64(int32(binary.LittleEndian.Uint32(b[off+1:]))))
			if j = starts.function(to); j < 0 {
				j = starts.function(m.image.through(to))
			}
		case slots && b[off] == 0xff && off+6 <= len(b) && (b[off+1] == 0x15 || b[off+1] == 0x25): // call, jmp *slot(%rip)
			slot := f.at.Add(int64(off) + 6 + int64(int32(binary.LittleEndian.Uint32(b[off+2:]))))
			j = starts.function(m.image.own[slot])
		}
		if j >= 0 && j != i {
			out = append(out, int32(j))
		}
	}
	return out
}

// takes looks for lea with a distance from rip that leads to the start of a function, and in
// a program at a fixed place for mov with its address. r8 to r15 have another prefix.
func (amd64Machine) takes(m *Module, starts *starts, i int) []int32 {
	f := &m.funcs[i]
	b := m.image.code(f.at, f.size)
	var out []int32
	for off := 1; off+6 <= len(b); off++ {
		next := bytes.IndexByte(b[off:len(b)-5], lea)
		if next < 0 {
			break
		}
		if off += next; b[off-1]&0xfb != 0x48 || b[off+1]&0xc7 != 0x05 {
			continue
		}
		to := f.at.Add(int64(off) + 6 + int64(int32(binary.LittleEndian.Uint32(b[off+2:]))))
		if j := starts.function(to); j >= 0 && j != i {
			out = append(out, int32(j))
		}
	}
	if m.file.Type != elf.ET_EXEC {
		return out
	}
	for off := 0; off+5 <= len(b); off++ {
		if b[off]&0xf8 != 0xb8 && b[off] != 0x68 && b[off] != 0xc7 {
			continue
		}
		for skip := 1; skip <= 8 && off+skip+4 <= len(b); skip++ {
			if skip > 1 && b[off] != 0xc7 {
				break
			}
			if j := starts.function(address.Vaddr(binary.LittleEndian.Uint32(b[off+skip:]))); j >= 0 && j != i {
				out = append(out, int32(j))
			}
		}
	}
	return out
}

func (amd64Machine) relative(relocation uint32) bool {
	return elf.R_X86_64(relocation) == elf.R_X86_64_RELATIVE
}

// nextCall returns the first of eight bytes that is e8 or e9 or, when slots count, ff with
// 15 or 25 behind it or at the end of the eight; or 8.
func nextCall(eight uint64, slots bool) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	zeros := func(v uint64) uint64 { return (v - ones) &^ v & tops } // of the first byte that is 0, and of some above it
	found := zeros((eight ^ 0xe8*ones) & (0xfe * ones))
	if slots {
		found |= zeros(^eight) & (zeros(eight&^(0x30*ones)^0x05*ones)>>8 | 0x80<<56)
	}
	return bits.TrailingZeros64(found) / 8
}

// stub knows a PLT entry: an optional endbr64, then an indirect jump (psABI, 5.2).
func (amd64Machine) stub(b []byte, v address.Vaddr) (address.Vaddr, bool) {
	if len(b) >= 4 && b[0] == 0xf3 && b[1] == 0x0f && b[2] == 0x1e && b[3] == 0xfa {
		b, v = b[4:], v+4
	}
	if len(b) > 0 && b[0] == 0xf2 { // bnd
		b, v = b[1:], v+1
	}
	if len(b) < 6 || b[0] != 0xff || b[1] != 0x25 {
		return 0, false
	}
	return v.Add(6 + int64(int32(binary.LittleEndian.Uint32(b[2:])))), true
}

// isPLT: push GOT+8, jmp GOT+16.
func (amd64Machine) isPLT(b []byte) bool {
	return len(b) >= 8 && b[0] == 0xff && b[1] == 0x35 && (b[6] == 0xff && b[7] == 0x25 || b[6] == 0xf2 && b[7] == 0xff)
}

// argumentRegisters are in the psABI's order (3.2.3).
var argumentRegisters = [...]amd64.Reg{amd64.RDI, amd64.RSI, amd64.RDX, amd64.RCX, amd64.R8, amd64.R9}

func (amd64Machine) arguments(m *Module, i int) Feature {
	return feature(KindArguments, uint64(m.reads(i)))
}

// reads returns the argument registers that function i reads.
func (m *Module) reads(i int) amd64.RegSet {
	registers := amd64.Set(argumentRegisters[:]...)
	f := &m.funcs[i]
	at := address.Addr(f.at)
	return registers &^ amd64.FreeAtEntry(m.image.code(f.at, min(f.size, maxFunctionSize)), at, at, registers)
}

func (amd64Machine) named(relocation uint32) (name, slot bool) {
	switch elf.R_X86_64(relocation) {
	case elf.R_X86_64_JMP_SLOT, elf.R_X86_64_GLOB_DAT, elf.R_X86_64_COPY:
		return true, true
	case elf.R_X86_64_64:
		return true, false
	}
	return false, false
}
