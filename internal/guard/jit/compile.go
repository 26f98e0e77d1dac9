package jit

import (
	"fmt"
	"math"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Compile places a verified guard. Errors are *PlaceError.
func Compile(p *verify.Program, s Site, l Layout) (*Code, error) {
	return compile(p, s, l, pressures[:])
}

// program is what compile needs of a verify.Program.
type program interface {
	Unit() *bpf.Unit
	Ways(i int) (falls, jumps bool)
	FaultPoint(i int) bool
	Fuel(i int) uint32
	Same(i int) bool
	Access(i int) verify.Access
	Stack() int
	StackOf(i int) int
	Verdicts() []bpf.Verdict
}

// maxValues bounds the time compilation takes. It is above what fits the 64 KiB
// of an arena's code region, at four bytes an operation.
const maxValues = 16 << 10

func compile(p program, s Site, l Layout, try []pressure) (*Code, error) {
	if err := checkLayout(p.Unit(), s, l); err != nil {
		return nil, err
	}
	f, err := lower(p)
	if err != nil {
		return nil, err
	}
	simplify(f)
	if ifConvert(f) {
		simplify(f)
	}
	if n := f.values(); n > maxValues {
		return nil, placeError(p.Unit(), -1, fmt.Sprintf("%d operations are more than the code region holds", n), ErrUnsupported)
	}
	conv := conventionOf(s.ABI)
	if err := checkPlacement(p, f, conv, l); err != nil {
		return nil, err
	}
	if l.Faults == Table {
		hoist(f)
	}
	legalise(f)
	order(f)
	f.stack = p.Stack()
	regs := allocate(f, conv, s.Free, try)
	if regs == nil {
		return nil, placeError(p.Unit(), -1, "too few registers", ErrUnsupported)
	}
	return emit(p, f, regs, s, l)
}

// far reports whether code at a may not reach b: there are 2 GiB to both sides, less what
// the code and what is at b take.
func far(a, b address.Addr) bool {
	d := int64(b - a)
	return d > math.MaxInt32-1<<20 || d < math.MinInt32+1<<20
}

// checkLayout refuses addresses that no code could be written for.
func checkLayout(u *bpf.Unit, s Site, l Layout) error {
	bad := func(detail string) error {
		return &PlaceError{Unit: u.Name, Insn: -1, Detail: detail, Err: ErrLayout}
	}
	switch {
	case l.Code%16 != 0:
		return bad("code address " + l.Code.String() + " is not 16-byte aligned")
	case l.After == nil:
		return bad("nothing leads back to the function")
	case l.Control%64 != 0 || l.Counters%64 != 0 || l.Events%64 != 0:
		return bad("control block, counters and events must be 64-byte aligned")
	case far(l.Code, l.Control) || far(l.Code, l.Counters) || l.Events != 0 && far(l.Code, l.Events):
		return bad("control block, counters or events are out of reach of the code")
	case l.State%64 != 0 || u.State != 0 && l.State == 0:
		return bad("state at " + l.State.String() + " where 64-byte aligned memory is needed")
	case s.ABI != SysV && s.ABI != GoInternal:
		return bad("unknown calling convention")
	case l.Faults > Copy:
		return bad("unknown fault mode")
	case l.Quiet && u.Caps&(bpf.CapWrite|bpf.CapCall|bpf.CapExit) != 0:
		return &PlaceError{Unit: u.Name, Insn: -1, Detail: "a guard that writes, calls functions or ends the process", Err: ErrQuiet}
	case l.OwnEnd < l.OwnStart || int64(l.OwnEnd-l.OwnStart) > math.MaxInt32/2:
		return bad("the arena is too large")
	case s.SPDelta < 0 || s.SPDelta > 1<<16:
		return bad("SPDelta is out of range")
	}
	return nil
}

// checkPlacement refuses what the calling convention or the target cannot give.
func checkPlacement(p program, f *function, conv *convention, l Layout) error {
	u := p.Unit()
	for _, b := range f.blocks {
		for _, v := range b.values {
			if err := checkValue(u, v, conv, l); err != nil {
				return err
			}
		}
		if b.term != termExit {
			continue
		}
		verdicts := p.Verdicts()
		if b.exit.verdict.isConst() {
			verdicts = []bpf.Verdict{verdictOf(b.exit.verdict)}
		}
		for _, v := range verdicts {
			if detail, err := checkVerdict(v, conv, l); err != nil {
				return placeError(u, b.insn, detail, err)
			}
		}
	}
	return nil
}

// checkVerdict refuses a verdict that cannot be carried out.
func checkVerdict(v bpf.Verdict, conv *convention, l Layout) (detail string, err error) {
	words, xmm0, errno, _ := carried(v)
	switch {
	case v.Kind() == bpf.VerdictRewrite && words > bpf.FrameArgs:
		return fmt.Sprintf("rewriting word %d", words-1), ErrArgument
	case v.Kind() == bpf.VerdictReject && words > len(conv.results):
		return "", ErrResult
	case xmm0 && !conv.xmm0:
		return "floating-point result under Go's ABIInternal", ErrResult
	case errno && !l.Errno.Known:
		return "", ErrErrno
	}
	return "", nil
}

func checkValue(u *bpf.Unit, v *value, conv *convention, l Layout) error {
	switch {
	case v.op == opArg && int(v.imm) >= len(conv.args):
		return placeError(u, v.insn, "", ErrArgument)
	case v.op == opSymbol && int(v.imm) >= len(l.Symbols):
		return placeError(u, v.insn, "", ErrSymbol)
	case (v.op == opStackUsed || v.op == opThread) && conv != &goInternal && !l.Pointer:
		return placeError(u, v.insn, "", ErrThread)
	case v.op == opHelper && bpf.Helper(v.imm) == bpf.HelperInvoke:
		if detail, err := checkInvoke(conv, l); err != nil {
			return placeError(u, v.insn, detail, err)
		}
	case l.Quiet && v.op == opHelper && bpf.Helper(v.imm) == bpf.HelperNow:
		return placeError(u, v.insn, "asking for the time", ErrQuiet)
	case v.faults && l.Faults == Probe && !l.Gettid:
		return placeError(u, v.insn, "rt_sigprocmask", ErrSyscall)
	}
	return nil
}

// checkInvoke refuses to call functions where what that takes is not known.
func checkInvoke(conv *convention, l Layout) (detail string, err error) {
	switch {
	case conv == &goInternal:
		return "calling a function under Go's ABIInternal", ErrUnsupported
	case !l.Pointer:
		return "", ErrThread
	case !l.Errno.Known:
		return "a function that is called may change errno", ErrErrno
	case l.XSave < xsaveHeader+xsaveHeaderSize || l.XSave > 1<<16 || l.XSave%8 != 0:
		return "", ErrXState
	}
	return "", nil
}

func placeError(u *bpf.Unit, insn int, detail string, err error) error {
	e := &PlaceError{Unit: u.Name, Insn: insn, Detail: detail, Err: err}
	if insn >= 0 && insn < len(u.Pos) {
		e.Pos = u.Pos[insn]
	}
	return e
}
