package amd64

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Reasons why instructions cannot be moved; they are wrapped in errors that
// name the instruction.
var (
	// ErrCallInside: a call is followed by another instruction of the run, so
	// that its return address would lie in the moved bytes.
	ErrCallInside = errors.New("a call is not the last instruction to be moved")
	// ErrSystem: the kernel restarts a system call by setting the pc back to it.
	ErrSystem = errors.New("a system call cannot be moved")
	// ErrReach: a 32-bit displacement does not reach from the new place.
	ErrReach = errors.New("out of reach of a 32-bit displacement")
	// ErrImmovable: the instruction depends on its address in a way that is not
	// rewritten (32-bit rip-relative, far call, call through rsp, xbegin into the run).
	ErrImmovable = errors.New("instruction cannot be moved")
)

// Step is one instruction of a moved run: where it was and where it is, as
// offsets from the run's start and from the new code's start.
type Step struct{ Old, New int }

// Relocated is a run of instructions at a new address.
type Relocated struct {
	Code []byte
	// Steps tells each instruction's old and new place, ascending in both. An
	// instruction that became several is told by its first.
	Steps []Step
	// Falls reports whether control leaves the run at its end: then the caller
	// appends a jump to what followed. Otherwise Code ends in a branch, and maybe
	// a constant.
	Falls bool
}

// Relocate rewrites the run of whole instructions in code, which is at from, to
// do the same at to. Branches out of the run, and rip-relative operands, keep their
// targets; a branch to an instruction of the run goes to its new place. A call
// becomes a push of the original return address and a jump, so that no unwinder,
// exception or removal ever meets the new place as a return address.
//
// Errors wrap ErrUndecodable, ErrTruncated, ErrCallInside, ErrSystem, ErrReach or
// ErrImmovable.
func Relocate(code []byte, from, to address.Addr) (Relocated, error) {
	r := relocator{from: from, to: to, end: from.Add(int64(len(code)))}
	for off := 0; off < len(code); {
		at := from.Add(int64(off))
		i, err := Decode(code[off:], at)
		if err != nil {
			return Relocated{}, err
		}
		r.run = append(r.run, i)
		off += i.Len
	}
	if err := r.check(); err != nil {
		return Relocated{}, err
	}
	// Sizes do not depend on targets, so one pass places every instruction and
	// a second one, with the places known, writes.
	for range 2 {
		r.out, r.steps = r.out[:0], make([]Step, 0, len(r.run))
		for _, i := range r.run {
			r.steps = append(r.steps, Step{Old: int(i.Addr - from), New: len(r.out)})
			if err := r.move(i); err != nil {
				return Relocated{}, fmt.Errorf("move %v: %s: %w", i.Addr, i, err)
			}
		}
		r.placed = r.steps
	}
	falls := len(r.run) == 0 || r.run[len(r.run)-1].Falls()
	return Relocated{Code: r.out, Steps: r.steps, Falls: falls}, nil
}

type relocator struct {
	from, end, to address.Addr
	run           []Inst
	out           []byte
	steps, placed []Step
}

// check refuses what no rewriting of single instructions can move.
func (r *relocator) check() error {
	for n, i := range r.run {
		last := n == len(r.run)-1
		var err error
		switch {
		case i.Flow == FlowSystem:
			err = ErrSystem
		case (i.Flow == FlowCall || i.Flow == FlowIndirectCall) && !last:
			err = ErrCallInside
		case i.Flow == FlowIndirectCall && !i.simpleCall():
			err = ErrImmovable
		case i.RIPRel && i.enc.addr32:
			err = ErrImmovable
		case (i.Flow == FlowJump || i.Flow == FlowCond) && r.interior(i.Target) && !r.boundary(i.Target):
			err = ErrImmovable
		}
		if err != nil {
			return fmt.Errorf("move %v: %s: %w", i.Addr, i, err)
		}
	}
	return nil
}

// simpleCall reports an indirect near call whose operand a push does not change.
func (i Inst) simpleCall() bool {
	e := &i.enc
	if e.modrm>>3&7 != 2 || e.size16 {
		return false
	}
	if e.isReg() {
		return e.rm() != RSP
	}
	return e.base() != RSP
}

func (r *relocator) interior(a address.Addr) bool { return a >= r.from && a < r.end }

func (r *relocator) boundary(a address.Addr) bool {
	for _, i := range r.run {
		if i.Addr == a {
			return true
		}
	}
	return false
}

// here is the address of the next byte of output.
func (r *relocator) here() address.Addr { return r.to.Add(int64(len(r.out))) }

// target returns where a branch to a must go now.
func (r *relocator) target(a address.Addr) address.Addr {
	if !r.interior(a) {
		return a
	}
	for _, s := range r.placed {
		if r.from.Add(int64(s.Old)) == a {
			return r.to.Add(int64(s.New))
		}
	}
	return r.to // first pass: places are not known yet
}

func (r *relocator) move(i Inst) error {
	switch i.Flow {
	case FlowJump:
		return r.branch([]byte{0xe9}, i.Target)
	case FlowCond:
		return r.conditional(i)
	case FlowCall:
		r.pushReturn(5)
		if err := r.branch([]byte{0xe9}, i.Target); err != nil {
			return err
		}
		r.constant(i.Next())
		return nil
	case FlowIndirectCall:
		return r.indirectCall(i)
	}
	return r.copy(i, i.enc.code)
}

// branch writes an opcode and the rel32 to a.
func (r *relocator) branch(opcode []byte, a address.Addr) error {
	a = r.target(a)
	r.out = append(r.out, opcode...)
	rel, err := displacement(r.here().Add(4), a)
	r.out = binary.LittleEndian.AppendUint32(r.out, uint32(rel))
	return err
}

func (r *relocator) conditional(i Inst) error {
	e := &i.enc
	switch {
	case e.space == space0F:
		return r.branch([]byte{0x0f, e.opcode}, i.Target)
	case e.opcode >= 0x70 && e.opcode <= 0x7f:
		return r.branch([]byte{0x0f, e.opcode + 0x10}, i.Target)
	case e.opcode == 0xc7: // xbegin rel32
		return r.branch([]byte{0xc7, 0xf8}, i.Target)
	}
	// loop and jrcxz have no long form: over a short jump to a long one.
	if e.addr32 {
		r.out = append(r.out, 0x67)
	}
	r.out = append(r.out, e.opcode, 2, 0xeb, 5)
	return r.branch([]byte{0xe9}, i.Target)
}

// pushReturn writes a push of the constant that stands after a jump of n bytes.
func (r *relocator) pushReturn(n int) {
	r.out = append(r.out, 0xff, 0x35)
	r.out = binary.LittleEndian.AppendUint32(r.out, uint32(n))
}

func (r *relocator) constant(a address.Addr) {
	r.out = binary.LittleEndian.AppendUint64(r.out, uint64(a))
}

// indirectCall turns ff /2 into a push and ff /4.
func (r *relocator) indirectCall(i Inst) error {
	jump := append([]byte(nil), i.enc.code...)
	jump[r.modrmOffset(i)] ^= (2 ^ 4) << 3
	r.pushReturn(len(jump))
	if err := r.copy(i, jump); err != nil {
		return err
	}
	r.constant(i.Next())
	return nil
}

// modrmOffset returns where the ModRM byte of an instruction with the one-byte
// opcode ff stands: behind prefixes, none of which is ff.
func (r *relocator) modrmOffset(i Inst) int {
	for n, b := range i.enc.code {
		if b == i.enc.opcode {
			return n + 1
		}
	}
	return 0
}

// copy writes code, which is i's or as long, with a rip-relative operand adjusted.
func (r *relocator) copy(i Inst, code []byte) error {
	at := len(r.out)
	r.out = append(r.out, code...)
	if !i.RIPRel {
		return nil
	}
	rel, err := displacement(r.here(), i.Mem)
	binary.LittleEndian.PutUint32(r.out[at+i.enc.dispOff:], uint32(rel))
	return err
}

// displacement returns the rel32 from the end of an instruction to a.
func displacement(end, a address.Addr) (int32, error) {
	d := int64(a - end)
	if d < math.MinInt32 || d > math.MaxInt32 {
		return 0, fmt.Errorf("%v from %v: %w", a, end, ErrReach)
	}
	return int32(d), nil
}
