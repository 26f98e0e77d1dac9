package compile

import (
	"cmp"
	"go/types"
	"slices"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// maxWord is the highest argument word that Arg takes.
const maxWord = 64

// sysvRegs is how many argument words SysV passes in registers (psABI 3.2.3).
const sysvRegs = 6

// guard compiles one guard.
func (m *module) guard(p *source.Prepatch, g source.Guard) (*Guard, *Error) {
	fn := m.ssa.Func(g.Name)
	if fn == nil {
		return nil, &Error{Pos: g.Pos, Msg: "there is no function " + g.Name, Instead: "put //pie:guard directly above a function that is no method"}
	}
	l := newLowerer(m)
	l.sysv = g.ABI == source.SysV
	l.pos = fn.Pos()
	l.caps = caps(p)
	l.rewrites = rewritable(fn, map[*ssa.Function]bool{})
	args, params := l.params(fn)
	if l.err == nil {
		l.keepArgs()
		l.call(&function{fn: fn}, args, true)
	}
	if l.err != nil {
		return nil, l.err
	}
	unit, err := l.finish(g)
	if err != nil {
		return nil, err
	}
	unit.Caps, unit.State = caps(p), m.stateSize
	return &Guard{Guard: g, Unit: unit, Params: params, Mirrors: l.mirrorList()}, nil
}

// params checks the guard's signature and loads its arguments.
func (l *lowerer) params(fn *ssa.Function) ([]value, []Param) {
	sig := fn.Signature
	const want = "func(c *libpie.Call, …) libpie.Verdict"
	switch {
	case sig.Recv() != nil || sig.Params().Len() == 0 || !isCall(sig.Params().At(0).Type()):
		l.fail("declare it as "+want, "the guard does not take a *libpie.Call first")
	case sig.Results().Len() != 1 || !isLib(sig.Results().At(0).Type(), "Verdict"):
		l.fail("declare it as "+want, "the guard does not return a libpie.Verdict")
	case fn.TypeParams().Len() > 0:
		l.fail("write it for the types of the function", "a guard cannot be generic")
	case sig.Variadic():
		l.fail("libpie.Arg reads variadic arguments", "a guard cannot be variadic")
	}
	if l.err != nil {
		return nil, nil
	}
	args := []value{one(constant0)}
	var params []Param
	word := 0
	for i := 1; i < sig.Params().Len(); i++ {
		p := sig.Params().At(i)
		if p.Pos().IsValid() {
			l.pos = p.Pos()
		}
		v, words := l.param(p.Type(), word)
		args = append(args, v)
		params = append(params, Param{Name: p.Name(), Type: typeName(p.Type()), Word: word, Words: words})
		word += words
	}
	return args, params
}

// param loads the argument of type t that begins at a word.
func (l *lowerer) param(t types.Type, word int) (value, int) {
	wide := false
	for _, name := range []string{"GoString", "GoSlice", "GoError", "GoInterface"} {
		wide = wide || isLib(t, name)
	}
	all, ok := l.m.leaves(t)
	if _, isScalar := scalar(t); !ok || !wide && !isScalar || isLib(t, "Mem") {
		l.fail("a parameter is a sized integer, bool, libpie.Addr, a pointer to a struct, or one of libpie.GoString, GoSlice, GoError, GoInterface; floating-point parameters of a C function are left out", "a guard cannot take a %s", typeName(t))
		return value{}, 0
	}
	var v value
	for k, leaf := range all {
		v.parts = append(v.parts, l.argWord(word+k, leaf))
	}
	return v, len(all)
}

// argWord loads argument word i. Which words are in registers depends on the
// calling convention: six under SysV, nine for Go.
func (l *lowerer) argWord(i int, t leaf) operand {
	switch {
	case !l.sysv && i >= bpf.FrameArgs:
		l.fail("", "argument word %d of a Go function is on the stack, which guards cannot read yet: only words 0 to %d", i, bpf.FrameArgs-1)
		return operand{}
	case l.sysv && i >= sysvRegs:
		// The word above the return address is stack argument 0.
		sp := l.frame(bpf.FrameSP)
		return l.loadLeaf(sp, int64(8+8*(i-sysvRegs)), t)
	}
	w := l.frame(bpf.FrameArg + 8*int32(i))
	if t.isBool {
		return l.truth(w)
	}
	return l.extend(w, t)
}

// frame loads a word of the frame.
func (l *lowerer) frame(off int32) operand {
	return l.emitTo(insn{op: opFrameLoad, base: l.base, off: off})
}

// mirrorList describes the structs that the guard reads, by name.
func (l *lowerer) mirrorList() []Mirror {
	var all []Mirror
	for named := range l.mirrors {
		st := named.Underlying().(*types.Struct)
		fields := structFields(st)
		mirror := Mirror{Name: named.Obj().Name(), Size: l.m.sizes.Sizeof(named)}
		for i, off := range l.m.sizes.Offsetsof(fields) {
			mirror.Fields = append(mirror.Fields, Field{Name: fields[i].Name(), Offset: off, Size: l.m.sizes.Sizeof(fields[i].Type())})
		}
		all = append(all, mirror)
	}
	slices.SortFunc(all, func(a, b Mirror) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
