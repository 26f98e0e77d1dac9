package compile

import (
	"go/types"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// site is one call of a function of libpie.
type site struct {
	*lowerer
	name string
	fn   *ssa.Function // with type arguments
	call *ssa.Call
	args []value
}

// word is argument k, one word.
func (s *site) word(k int) operand {
	v := s.plain(s.args[k])
	if len(v.parts) != 1 {
		s.fail("only memory of the target has an address", "this argument of %s is not a number or an address", s.name)
		return operand{}
	}
	return v.parts[0]
}

// mem is argument k, a libpie.Mem.
func (s *site) mem(k int) (a, n operand) {
	if v := s.args[k]; len(v.parts) == 2 {
		return v.parts[0], v.parts[1]
	}
	s.fail("", "this is no piece of memory")
	return operand{}, operand{}
}

// textArg is argument k, a constant string.
func (s *site) textArg(k int) string {
	if t, ok := s.constText(s.args[k]); ok {
		return t
	}
	s.fail("write a string literal or a constant; compare memory with memory by EqualMem", "the string for %s is not a constant", s.name)
	return ""
}

// intrinsics are libpie's functions as instructions. Methods have their
// receiver's name and are given it as argument 0.
var intrinsics map[string]func(s *site) value

func init() {
	intrinsics = map[string]func(s *site) value{
		"Pass":             func(s *site) value { return value{verdict: &verdict{}} },
		"Rewrite":          rewrite,
		"Exit":             exitProcess,
		"Log":              func(s *site) value { c := s.word(0); return value{verdict: &verdict{kind: bpf.VerdictLog, code: &c}} },
		"RejectVoid":       func(s *site) value { return reject() },
		"Reject":           func(s *site) value { return reject(result{word: s.word(0)}) },
		"RejectPtr":        func(s *site) value { return reject(result{word: s.word(0)}) },
		"RejectFloat":      rejectFloat,
		"RejectFloat32":    rejectFloat,
		"RejectErrno":      rejectErrno,
		"RejectGo":         rejectGo,
		"Word":             func(s *site) value { return value{result: &result{word: s.word(0)}} },
		"GoVar":            goVar,
		"At":               at,
		"AddrOf":           addrOf,
		"Arg":              argument,
		"Verdict.WithCode": withCode,

		"Call.CalledFrom": calledFrom,
		"Call.Global":     func(s *site) value { return one(s.global(1)) },
		"GlobalOf":        globalOf,
		"Call.StackUsed":  func(s *site) value { return one(s.bound(s.helper(bpf.HelperStackUsed), bpf.MaxStack)) },

		"Counter.Add":   counterAdd,
		"Counter.Value": counterValue,
		"Counter.Set":   counterSet,
		"Map.Get":       mapGet,
		"Map.Put":       mapPut,
		"Map.Add":       mapAdd,
		"Map.Delete":    mapDelete,
		"PerThread.Get": threadGet,
		"PerThread.Set": threadSet,
		"PerThread.Add": threadAdd,
		"Limiter.Allow": limiterAllow,
		"NewMap":        declared, "NewPerThread": declared, "NewLimiter": declared,

		"Call.Put8":  func(s *site) value { return s.put(1) },
		"Call.Put16": func(s *site) value { return s.put(2) },
		"Call.Put32": func(s *site) value { return s.put(4) },
		"Call.Put64": func(s *site) value { return s.put(8) },
		"Call.Zero":  zero,

		"Call.Invoke": invoke,

		"Call.SetArg":     setArg,
		"Call.Bytes":      bytesAt,
		"Call.CStr":       cStr,
		"Call.ReturnAddr": func(s *site) value { return one(s.frame(bpf.FrameReturn)) },
		"Call.Tid":        func(s *site) value { return one(s.extend(s.helper(bpf.HelperTid), leaf{size: 4, signed: true})) },
		"Call.Now":        func(s *site) value { return one(s.helper(bpf.HelperNow)) },

		"Mem.Addr":      func(s *site) value { a, _ := s.mem(0); return one(a) },
		"Mem.Len":       func(s *site) value { _, n := s.mem(0); return one(n) },
		"Mem.At":        memAt,
		"Mem.Little16":  func(s *site) value { return one(s.memWord(2)) },
		"Mem.Little32":  func(s *site) value { return one(s.memWord(4)) },
		"Mem.Little64":  func(s *site) value { return one(s.memWord(8)) },
		"Mem.Big16":     func(s *site) value { return one(s.swapped(s.memWord(2), 2)) },
		"Mem.Big32":     func(s *site) value { return one(s.swapped(s.memWord(4), 4)) },
		"Mem.Big64":     func(s *site) value { return one(s.swapped(s.memWord(8), 8)) },
		"Mem.Slice":     memSlice,
		"Mem.Index":     memIndex,
		"Mem.Count":     memCount,
		"Mem.Find":      func(s *site) value { return one(s.find()) },
		"Mem.Contains":  contains,
		"Mem.Equal":     func(s *site) value { return one(s.matches(bpf.JmpEQ, false)) },
		"Mem.HasPrefix": func(s *site) value { return one(s.matches(bpf.JmpGE, false)) },
		"Mem.HasSuffix": func(s *site) value { return one(s.matches(bpf.JmpGE, true)) },
		"Mem.EqualMem":  equalMem,
	}
}

// intrinsic lowers a call of obj, a function of libpie.
func (l *lowerer) intrinsic(obj *types.Func, fn *ssa.Function, i *ssa.Call, args []value) value {
	name := obj.Name()
	if recv := obj.Signature().Recv(); recv != nil {
		t := recv.Type()
		if p, ok := t.(*types.Pointer); ok {
			t = p.Elem()
		}
		name = t.(*types.Named).Obj().Name() + "." + name
	}
	lower := intrinsics[name]
	if lower == nil {
		l.fail("", "libpie.%s is for tests, not for guards", name)
		return value{}
	}
	return lower(&site{lowerer: l, name: name, fn: fn, call: i, args: args})
}

func reject(results ...result) value {
	return value{verdict: &verdict{kind: bpf.VerdictReject, results: results}}
}

func rejectFloat(s *site) value {
	bits := s.word(0)
	v := reject()
	v.verdict.float = &bits
	return v
}

func rejectErrno(s *site) value {
	errno := s.word(0)
	v := reject(result{word: s.word(1)})
	v.verdict.errno = &errno
	return v
}

func rejectGo(s *site) value {
	v := reject()
	for _, r := range s.args[0].tuple {
		if r.result == nil {
			s.fail("libpie.RejectGo(libpie.Word(0), libpie.GoVar(\"io.EOF\"))", "each result of RejectGo is written as libpie.Word(…) or libpie.GoVar(…) in the call itself")
			return value{}
		}
		v.verdict.results = append(v.verdict.results, *r.result)
	}
	return v
}

func goVar(s *site) value {
	name := s.textArg(0)
	if name == "" && s.err == nil {
		s.fail("write its full name, like io.EOF", "the variable has no name")
	}
	return value{result: &result{goVar: name}}
}

func withCode(s *site) value {
	v := s.args[0].verdict
	if v == nil || v.phi != nil {
		s.fail("write it where the verdict is made", "WithCode needs a verdict that does not depend on a condition")
		return value{}
	}
	coded, code := *v, s.word(1)
	coded.code = &code
	return value{verdict: &coded}
}

// at lowers At: the address is the pointer.
func at(s *site) value {
	elem := s.fn.TypeArgs()[0]
	if !s.canRead(elem) {
		return value{}
	}
	return one(s.word(0))
}

func addrOf(s *site) value {
	if isLib(s.fn.TypeArgs()[0], "Call") {
		s.fail("c.ReturnAddr and libpie.Arg tell about the call", "a libpie.Call has no address in the target")
		return value{}
	}
	return one(s.word(0))
}

// argument lowers Arg.
func argument(s *site) value {
	i := s.word(1)
	if !i.isConst() || i.c < 0 || i.c > maxWord {
		s.fail("write the number", "the index of an argument must be a constant from 0 to %d", maxWord)
		return value{}
	}
	t, ok := scalar(s.fn.TypeArgs()[0])
	if !ok {
		s.fail("use libpie.Addr and libpie.At", "an argument word cannot be a %s", typeName(s.fn.TypeArgs()[0]))
		return value{}
	}
	return one(s.argWord(int(i.c), t))
}

// bytesAt lowers Bytes: a length out of range faults here, not when read.
func bytesAt(s *site) value {
	a, n := s.word(1), s.word(2)
	s.faultIf(bpf.JmpGT, n, operand{c: bpf.MaxLength})
	return value{parts: []operand{a, s.bounded(n)}}
}

// bounded returns a length that has been checked.
func (l *lowerer) bounded(n operand) operand {
	if n.isConst() || l.atMost(n) <= bpf.MaxLength {
		return n
	}
	return l.bound(l.mov(n), bpf.MaxLength)
}

func cStr(s *site) value {
	a, most := s.word(1), s.word(2)
	s.faultIf(bpf.JmpGT, most, operand{c: bpf.MaxLength})
	most = s.bounded(most)
	n := s.bound(s.helper(bpf.HelperStrLen, a, most), s.atMost(most))
	r := s.newReg()
	yes, no, done := s.newBlock(), s.newBlock(), s.newBlock()
	s.branch(bpf.JmpLT, n, most, yes, no)
	terminated := s.outcome(r, yes, no, done)
	return value{tuple: []value{{parts: []operand{a, n}}, one(terminated)}}
}
