package amd64

import (
	"encoding/binary"
)

// space is an opcode map.
type space uint8

const (
	spaceOne   space = iota // one byte
	space0F                 // 0f
	space0F38               // 0f 38
	space0F3A               // 0f 3a
	space3DNow              // 0f 0f … opcode
	spaceVEX                // c4, c5: map in encoding.table
	spaceEVEX               // 62
	spaceXOP                // 8f
)

// encoding is where the parts of one instruction lie (Intel SDM vol. 2,
// chapter 2; AMD APM vol. 3, chapter 1).
type encoding struct {
	code []byte // the whole instruction
	len  int

	seg      byte // 0x64 or 0x65, else 0
	rep      byte // last of 0xf2, 0xf3, else 0
	lock     bool
	size16   bool // 66
	addr32   bool // 67
	rex      byte // REX, or the same four bits from VEX, EVEX or XOP
	hasREX   bool
	space    space
	table    uint8 // opcode map of VEX, EVEX and XOP
	pp       uint8 // implied prefix of VEX, EVEX and XOP: 0, 66, F3, F2
	vvvv     Reg   // the extra operand of VEX, EVEX and XOP
	opcode   byte
	hasModRM bool
	modrm    byte
	sib      byte
	dispOff  int
	dispLen  int
	immOff   int
	immLen   int
}

func (e *encoding) rexW() bool { return e.rex&8 != 0 }

// reg returns the ModRM reg field, extended.
func (e *encoding) reg() Reg { return Reg(e.modrm>>3&7 | e.rex&4<<1) }

// rm returns the ModRM rm field, extended; a register when isReg.
func (e *encoding) rm() Reg { return Reg(e.modrm&7 | e.rex&1<<3) }

// opReg returns the register in the low bits of the opcode, extended.
func (e *encoding) opReg() Reg { return Reg(e.opcode&7 | e.rex&1<<3) }

// isReg reports whether the rm operand is a register.
func (e *encoding) isReg() bool { return e.hasModRM && e.modrm>>6 == 3 }

// isMem reports whether the rm operand is in memory.
func (e *encoding) isMem() bool { return e.hasModRM && e.modrm>>6 != 3 }

func (e *encoding) ripRelative() bool { return e.isMem() && e.modrm&0xc7 == 5 }

// base and index return the registers of the memory operand.
func (e *encoding) base() Reg {
	switch {
	case !e.isMem() || e.ripRelative():
		return NoReg
	case e.modrm&7 != 4:
		return e.rm()
	case e.sib&7 == 5 && e.modrm>>6 == 0:
		return NoReg
	}
	return Reg(e.sib&7 | e.rex&1<<3)
}

func (e *encoding) index() Reg {
	if !e.isMem() || e.modrm&7 != 4 {
		return NoReg
	}
	if x := Reg(e.sib>>3&7 | e.rex&2<<2); x != RSP {
		return x
	}
	return NoReg
}

func (e *encoding) displacement() int64 { return signed(e.code[e.dispOff : e.dispOff+e.dispLen]) }
func (e *encoding) immediate() int64    { return signed(e.code[e.immOff : e.immOff+e.immLen]) }

// signed reads a little-endian two's complement number of 0, 1, 2, 4 or 8 bytes.
func signed(b []byte) int64 {
	switch len(b) {
	case 1:
		return int64(int8(b[0]))
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	case 8:
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// reader walks over the bytes of one instruction.
type reader struct {
	code []byte
	pos  int
}

func (r *reader) byte() (byte, error) {
	if r.pos >= MaxInstLen {
		return 0, ErrUndecodable
	}
	if r.pos >= len(r.code) {
		return 0, ErrTruncated
	}
	b := r.code[r.pos]
	r.pos++
	return b, nil
}

// skip moves over n bytes and returns where they start.
func (r *reader) skip(n int) (int, error) {
	start := r.pos
	if r.pos+n > MaxInstLen {
		return 0, ErrUndecodable
	}
	if r.pos+n > len(r.code) {
		return 0, ErrTruncated
	}
	r.pos += n
	return start, nil
}

// parse finds the parts of the instruction at the start of code.
func (e *encoding) parse(code []byte) error {
	r := reader{code: code}
	form, err := e.parseOpcode(&r)
	if err != nil {
		return err
	}
	if err := e.parseOperands(&r, form); err != nil {
		return err
	}
	e.len = r.pos
	e.code = code[:r.pos]
	return nil
}

// parseOpcode reads prefixes and opcode and returns the form of what follows.
func (e *encoding) parseOpcode(r *reader) (byte, error) {
	for {
		b, err := r.byte()
		if err != nil {
			return 0, err
		}
		if e.legacyPrefix(b) {
			e.rex, e.hasREX = 0, false // a REX counts only right before the opcode
			continue
		}
		if b>>4 == 4 {
			e.rex, e.hasREX = b&0xf, true
			continue
		}
		switch b {
		case 0x0f:
			return e.parse0F(r)
		case 0x62:
			return e.parseEVEX(r)
		case 0xc4, 0xc5:
			return e.parseVEX(r, b)
		case 0x8f:
			if x, err := r.byte(); err != nil {
				return 0, err
			} else if x&0x1f >= 8 {
				return e.parseXOP(r, x)
			}
			r.pos--
		}
		e.space, e.opcode = spaceOne, b
		return formsOne[b], nil
	}
}

func (e *encoding) legacyPrefix(b byte) bool {
	switch b {
	case 0x26, 0x2e, 0x36, 0x3e:
	case 0x64, 0x65:
		e.seg = b
	case 0x66:
		e.size16 = true
	case 0x67:
		e.addr32 = true
	case 0xf0:
		e.lock = true
	case 0xf2, 0xf3:
		e.rep = b
	default:
		return false
	}
	return true
}

func (e *encoding) parse0F(r *reader) (byte, error) {
	b, err := r.byte()
	if err != nil {
		return 0, err
	}
	switch b {
	case 0x38, 0x3a:
		op, err := r.byte()
		if err != nil {
			return 0, err
		}
		e.opcode = op
		if b == 0x38 {
			e.space = space0F38
			return 'm', nil
		}
		e.space = space0F3A
		return 'M', nil
	case 0x0f:
		e.space = space3DNow
		return 'M', nil
	}
	e.space, e.opcode = space0F, b
	return forms0F[b], nil
}

// parseVEX reads a two- or three-byte VEX prefix and the opcode.
func (e *encoding) parseVEX(r *reader, first byte) (byte, error) {
	if e.badVectorPrefix() {
		return 0, ErrUndecodable
	}
	p, err := r.byte()
	if err != nil {
		return 0, err
	}
	e.table = 1
	e.rex = ^p >> 5 & 4 // R
	if first == 0xc4 {
		e.table = p & 0x1f
		e.rex = ^p >> 5 & 7 // R X B
		if p, err = r.byte(); err != nil {
			return 0, err
		}
		e.rex |= p >> 4 & 8 // W
	}
	e.vvvv = Reg(^p >> 3 & 0xf)
	e.pp = p & 3
	e.space = spaceVEX
	if e.opcode, err = r.byte(); err != nil {
		return 0, err
	}
	if e.table == 1 && e.opcode == 0x77 {
		return '.', nil // vzeroupper, vzeroall
	}
	return vectorForm(e.table, e.opcode, 3)
}

// parseEVEX reads the four-byte EVEX prefix and the opcode. Bits that only APX
// gives a meaning make the instruction unknown.
func (e *encoding) parseEVEX(r *reader) (byte, error) {
	if e.badVectorPrefix() {
		return 0, ErrUndecodable
	}
	at, err := r.skip(3)
	if err != nil {
		return 0, err
	}
	p0, p1 := r.code[at], r.code[at+1]
	if p0&8 != 0 || p1&4 == 0 {
		return 0, ErrUndecodable
	}
	e.table = p0 & 7
	e.rex = ^p0>>5&7 | p1>>4&8
	e.vvvv = Reg(^p1 >> 3 & 0xf)
	e.pp = p1 & 3
	e.space = spaceEVEX
	if e.opcode, err = r.byte(); err != nil {
		return 0, err
	}
	return vectorForm(e.table, e.opcode, 6)
}

// badVectorPrefix reports prefixes that raise #UD before VEX, EVEX and XOP.
func (e *encoding) badVectorPrefix() bool {
	return e.hasREX || e.size16 || e.lock || e.rep != 0
}

// vectorForm returns the form of an opcode in a VEX or EVEX map.
func vectorForm(table uint8, opcode byte, last uint8) (byte, error) {
	switch {
	case table == 0 || table == 4 || table > last:
		return 0, ErrUndecodable
	case table == 3:
		return 'M', nil
	case table == 1 && (opcode >= 0x70 && opcode <= 0x73 || opcode == 0xc2 || opcode >= 0xc4 && opcode <= 0xc6):
		return 'M', nil
	}
	return 'm', nil
}

// parseXOP reads the rest of AMD's three-byte XOP prefix and the opcode.
func (e *encoding) parseXOP(r *reader, p0 byte) (byte, error) {
	if e.badVectorPrefix() {
		return 0, ErrUndecodable
	}
	p1, err := r.byte()
	if err != nil {
		return 0, err
	}
	e.table = p0 & 0x1f
	e.rex = ^p0>>5&7 | p1>>4&8
	e.vvvv = Reg(^p1 >> 3 & 0xf)
	e.pp = p1 & 3
	e.space = spaceXOP
	if e.opcode, err = r.byte(); err != nil {
		return 0, err
	}
	switch e.table {
	case 8:
		return 'M', nil
	case 9:
		return 'm', nil
	case 10:
		return '4', nil
	}
	return 0, ErrUndecodable
}

// parseOperands reads ModRM, SIB, displacement and immediate.
func (e *encoding) parseOperands(r *reader, form byte) error {
	f := forms[form]
	if !f.known {
		return ErrUndecodable
	}
	if f.modrm {
		if err := e.parseModRM(r); err != nil {
			return err
		}
	}
	n := e.immSize(f.imm)
	if n < 0 {
		return ErrUndecodable
	}
	at, err := r.skip(n)
	if err != nil {
		return err
	}
	e.immOff, e.immLen = at, n
	return nil
}

func (e *encoding) parseModRM(r *reader) error {
	var err error
	if e.modrm, err = r.byte(); err != nil {
		return err
	}
	e.hasModRM = true
	mod, rm := e.modrm>>6, e.modrm&7
	if mod == 3 || e.space == space0F && e.opcode >= 0x20 && e.opcode <= 0x23 {
		e.modrm |= 0xc0 // mov to and from control registers ignores mod
		return nil
	}
	n := [...]int{0, 1, 4}[mod]
	if rm == 4 {
		if e.sib, err = r.byte(); err != nil {
			return err
		}
		if mod == 0 && e.sib&7 == 5 {
			n = 4
		}
	} else if mod == 0 && rm == 5 {
		n = 4
	}
	e.dispLen = n
	e.dispOff, err = r.skip(n)
	return err
}

// immSize returns the bytes of immediate of a kind, −1 for an instruction that
// vendors read differently (66 before a near branch).
func (e *encoding) immSize(kind byte) int {
	wide := !e.size16 || e.rexW()
	switch kind {
	case '1':
		return 1
	case '2':
		return 2
	case '3':
		return 3
	case '4':
		return 4
	case 'z':
		if wide {
			return 4
		}
		return 2
	case 'v':
		if e.rexW() {
			return 8
		}
		if wide {
			return 4
		}
		return 2
	case 'o':
		if e.addr32 {
			return 4
		}
		return 8
	case 'j', 'J':
		if !wide {
			return -1
		}
		if kind == 'j' {
			return 1
		}
		return 4
	case 't', 'T': // group 3: only test has an immediate
		if e.modrm>>3&7 > 1 {
			return 0
		}
		if kind == 't' {
			return 1
		}
		return e.immSize('z')
	case 'x': // 0f 78: extrq and insertq have two immediate bytes, vmread none
		if e.size16 || e.rep == 0xf2 {
			return 2
		}
	}
	return 0
}
