package compile

import (
	"go/types"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// callInstr lowers a call: of a function that is an instruction here, or of one
// that is inlined.
func (l *lowerer) callInstr(in *instance, i *ssa.Call) value {
	if b, ok := i.Call.Value.(*ssa.Builtin); ok {
		return l.builtin(in, b.Name(), i)
	}
	f := l.callee(in, i)
	if f == nil {
		return value{}
	}
	fn := f.fn
	args := make([]value, len(i.Call.Args))
	for k, a := range i.Call.Args {
		args[k] = l.eval(in, a)
	}
	if l.err != nil {
		return value{}
	}
	declared := fn
	if fn.Origin() != nil {
		declared = fn.Origin()
	}
	if obj, ok := declared.Object().(*types.Func); ok && obj.Pkg() != nil {
		switch obj.Pkg().Path() {
		case libpiePath:
			return l.intrinsic(obj, fn, i, args)
		case wordsPath:
			return l.words(obj.Name(), args)
		case "math/bits":
			if size := swaps[obj.Name()]; size != 0 {
				return one(l.swapped(args[0].parts[0], size))
			}
		}
	}
	results := l.call(f, args, in.tail && returnedAtOnce(i))
	if len(results) == 1 {
		return results[0]
	}
	return value{tuple: results}
}

// swaps are the functions of math/bits that are one instruction.
var swaps = map[string]uint8{"ReverseBytes16": 2, "ReverseBytes32": 4, "ReverseBytes64": 8}

// returnedAtOnce reports whether the verdict that i returns is returned by the
// next instruction.
func returnedAtOnce(i *ssa.Call) bool {
	if !isLib(i.Type(), "Verdict") {
		return false
	}
	instrs := i.Block().Instrs
	for k, instr := range instrs {
		if instr == i && k+1 < len(instrs) {
			ret, ok := instrs[k+1].(*ssa.Return)
			return ok && len(ret.Results) == 1 && ret.Results[0] == i
		}
	}
	return false
}

func (l *lowerer) builtin(in *instance, name string, i *ssa.Call) value {
	switch name {
	case "len", "cap":
		v, t := l.eval(in, i.Call.Args[0]), i.Call.Args[0].Type().Underlying()
		if s, ok := l.constText(v); ok && isText(t) {
			return one(operand{c: int64(len(s))})
		}
		if isText(t) && len(v.parts) == 2 {
			return one(v.parts[1])
		}
		if _, ok := t.(*types.Slice); ok && v.place != nil {
			if name == "cap" {
				return one(v.room)
			}
			return one(v.count)
		}
		if p, ok := t.(*types.Pointer); ok {
			t = p.Elem().Underlying()
		}
		if a, ok := t.(*types.Array); ok {
			return one(operand{c: a.Len()})
		}
		l.fail("Mem has Len, a libpie.GoString and a libpie.GoSlice the field Len", "a guard cannot use %s here", name)
	case "min", "max":
		return l.minMax(in, name == "min", i)
	case "copy":
		return l.copySlice(in, i)
	case "clear":
		l.clearSlice(in, i)
		return value{}
	case "ssa:wrapnilchk":
		return l.eval(in, i.Call.Args[0])
	default:
		l.fail("", "a guard cannot use %s", name)
	}
	return value{}
}

func (l *lowerer) minMax(in *instance, least bool, i *ssa.Call) value {
	t, ok := scalar(i.Type())
	if !ok {
		l.fail("", "a guard cannot compare %s values", typeName(i.Type()))
		return value{}
	}
	best := l.scalar(in, i.Call.Args[0])
	cond := map[[2]bool]uint8{{true, true}: bpf.JmpSLE, {true, false}: bpf.JmpLE, {false, true}: bpf.JmpSGE, {false, false}: bpf.JmpGE}[[2]bool{least, t.signed}]
	for _, a := range i.Call.Args[1:] {
		o := l.scalar(in, a)
		if first, known := l.decide(cond, best, o); known {
			if !first {
				best = o
			}
			continue
		}
		r := l.newReg()
		l.emit(insn{op: opMov, dst: r, a: best})
		other, done := l.newBlock(), l.newBlock()
		l.branch(cond, best, o, done, other)
		l.start(other)
		l.emit(insn{op: opMov, dst: r, a: o})
		l.jump(done)
		l.start(done)
		most := max(l.atMost(best), l.atMost(o))
		if least && !t.signed {
			most = min(l.atMost(best), l.atMost(o))
		}
		best = l.bound(operand{r: r}, most)
	}
	return one(best)
}

// helper calls a helper.
func (l *lowerer) helper(h bpf.Helper, args ...operand) operand {
	return l.emitTo(insn{op: opCall, off: int32(h), args: args})
}
