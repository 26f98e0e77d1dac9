package compile

import (
	"go/constant"
	"go/token"
	"go/types"
	"math"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// eval returns what v has become.
func (l *lowerer) eval(in *instance, v ssa.Value) value {
	if c, ok := v.(*ssa.Const); ok {
		return l.constant(c)
	}
	if known, ok := in.vals[v]; ok {
		return known
	}
	if fn, ok := v.(*ssa.Function); ok {
		return l.functionValue(fn)
	}
	if g, ok := v.(*ssa.Global); ok && l.m.objects[g.Object()] != nil {
		return value{object: l.m.objects[g.Object()]}
	}
	if g, ok := v.(*ssa.Global); ok && l.m.tables[g.Object()] != nil {
		return value{place: &place{alloc: l.m.tables[g.Object()]}}
	}
	l.fail("", "a guard cannot use %s", v.Name())
	return value{}
}

// scalar returns v, which is one word.
func (l *lowerer) scalar(in *instance, v ssa.Value) operand {
	x := l.plain(l.eval(in, v))
	if len(x.parts) != 1 {
		if x.object != nil {
			l.fail("call its methods", "a libpie variable has no address in the target")
		} else if x.place != nil {
			l.fail("only memory of the target has an address: use the variable itself", "a variable of the guard has no address in the target")
		} else {
			l.fail("", "a %s is not a single word", typeName(v.Type()))
		}
		return operand{}
	}
	return x.parts[0]
}

// plain adds a pointer's offset, as &p.f does: p must not be nil. A constant string
// becomes one that can be chosen.
func (l *lowerer) plain(v value) value {
	if v.text != nil {
		return l.textParts(*v.text)
	}
	if v.off == 0 {
		return v
	}
	l.faultIf(bpf.JmpEQ, v.parts[0], constant0)
	return one(l.alu(bpf.AluADD, v.parts[0], operand{c: v.off}))
}

var constant0 = operand{}

func (l *lowerer) constant(c *ssa.Const) value {
	t := c.Type()
	if c.Value == nil {
		return l.zero(t)
	}
	switch c.Value.Kind() {
	case constant.Bool:
		if constant.BoolVal(c.Value) {
			return one(operand{c: 1})
		}
		return one(constant0)
	case constant.String:
		s := constant.StringVal(c.Value)
		return value{text: &s}
	}
	if b, ok := t.Underlying().(*types.Basic); ok && b.Info()&types.IsFloat != 0 {
		if b.Kind() == types.Float32 {
			f, _ := constant.Float32Val(constant.ToFloat(c.Value))
			return one(operand{c: int64(math.Float32bits(f))})
		}
		f, _ := constant.Float64Val(constant.ToFloat(c.Value))
		return one(operand{c: int64(math.Float64bits(f))})
	}
	i := constant.ToInt(c.Value)
	if n, ok := constant.Int64Val(i); ok {
		return one(operand{c: n})
	}
	n, _ := constant.Uint64Val(i)
	return one(operand{c: int64(n)})
}

// zero returns the zero value of t.
func (l *lowerer) zero(t types.Type) value {
	if isLib(t, "Verdict") {
		return value{verdict: &verdict{}}
	}
	if isLib(t, "Result") {
		return value{result: &result{}}
	}
	if isText(t) {
		empty := ""
		return value{text: &empty}
	}
	if s, ok := t.Underlying().(*types.Slice); ok {
		return l.noElements(s.Elem())
	}
	if isFunction(t) {
		l.fail("declare it with the function that it is", "a function value is nil here")
		return value{}
	}
	if types.IsInterface(t) {
		l.fail("return a bool or a number", "a guard cannot hold an interface value, of type %s", typeName(t))
		return value{}
	}
	all, ok := l.m.leaves(t)
	if !ok || len(all) > maxParts {
		l.fail("use a variable, or declare only the part that is needed", "a value of type %s is too large to be copied, or of a kind a guard cannot hold", typeName(t))
		return value{}
	}
	return value{parts: make([]operand, len(all))}
}

// instr lowers one instruction.
func (l *lowerer) instr(in *instance, i ssa.Instruction) {
	switch i := i.(type) {
	case *ssa.Jump:
		l.jump(l.goTo(in, i.Block(), 0))
	case *ssa.If:
		l.ifElse(in, i)
	case *ssa.Return:
		l.ret(in, i)
	case *ssa.Panic:
		l.jump(l.faultBlock())
	case *ssa.Store:
		l.store(in, i)
	case *ssa.DebugRef:
	case ssa.Value:
		if _, fused := i.(*ssa.BinOp); fused && onlyIf(i) {
			return // the If does it
		}
		in.vals[i] = l.compute(in, i)
	default:
		l.fail("", "a guard cannot use %s", i)
	}
}

// onlyIf reports whether v is only a condition.
func onlyIf(v ssa.Value) bool {
	b := v.(*ssa.BinOp)
	if !isComparison(b.Op) {
		return false
	}
	for _, r := range *v.Referrers() {
		if _, ok := r.(*ssa.If); !ok {
			return false
		}
	}
	return true
}

// compute lowers an instruction that has a value.
func (l *lowerer) compute(in *instance, i ssa.Value) value {
	switch i := i.(type) {
	case *ssa.Phi:
		return l.phi(in, i)
	case *ssa.BinOp:
		return l.binary(in, i)
	case *ssa.UnOp:
		return l.unary(in, i)
	case *ssa.Convert:
		return l.convert(in, i.X, i.Type())
	case *ssa.ChangeType:
		return l.eval(in, i.X)
	case *ssa.Call:
		return l.callInstr(in, i)
	case *ssa.MakeClosure:
		return l.closure(in, i)
	case *ssa.Extract:
		if t := l.eval(in, i.Tuple).tuple; i.Index < len(t) {
			return t[i.Index]
		}
		return value{}
	case *ssa.Alloc:
		return l.allocate(i)
	case *ssa.FieldAddr:
		return l.fieldAddr(in, i)
	case *ssa.IndexAddr:
		return l.indexAddr(in, i)
	case *ssa.Field:
		return l.field(in, i)
	case *ssa.Index:
		return l.index(in, i)
	case *ssa.Slice:
		return l.slice(in, i)
	case *ssa.MakeInterface:
		if onlyPanics(i) {
			return value{}
		}
		l.fail("use the concrete type", "a guard cannot use interfaces")
	case *ssa.Range:
		return l.rangeText(in, i)
	case *ssa.Next:
		return l.nextRune(in, i)
	default:
		l.fail("", "a guard cannot use %s", i)
	}
	return value{}
}

func onlyPanics(i *ssa.MakeInterface) bool {
	for _, r := range *i.Referrers() {
		if _, ok := r.(*ssa.Panic); !ok {
			return false
		}
	}
	return true
}

// ifElse fuses a comparison with its branch.
func (l *lowerer) ifElse(in *instance, i *ssa.If) {
	cond, flip := i.Cond, false
	for {
		not, ok := cond.(*ssa.UnOp)
		if !ok || not.Op != token.NOT {
			break
		}
		cond, flip = not.X, !flip
	}
	yes, no := 0, 1
	if flip {
		yes, no = 1, 0
	}
	if b, ok := cond.(*ssa.BinOp); ok && isComparison(b.Op) {
		l.at(b.Pos())
		l.compare(in, b, func() *block { return l.goTo(in, i.Block(), yes) }, func() *block { return l.goTo(in, i.Block(), no) })
		return
	}
	c := l.scalar(in, cond)
	if c.isConst() {
		if c.c == 0 {
			yes = no
		}
		l.jump(l.goTo(in, i.Block(), yes))
		return
	}
	yesBlock := l.goTo(in, i.Block(), yes)
	l.branch(bpf.JmpNE, c, constant0, yesBlock, l.goTo(in, i.Block(), no))
}

// ret leaves the function, or the guard.
func (l *lowerer) ret(in *instance, i *ssa.Return) {
	var vals []value
	for _, r := range i.Results {
		vals = append(vals, l.eval(in, r))
	}
	if l.err != nil {
		return
	}
	if !in.tail {
		in.returns = append(in.returns, returned{at: l.cur, vals: vals})
		return
	}
	v := vals[0].verdict
	switch {
	case v == nil:
		l.fail("return libpie.Pass() or libpie.Reject(…)", "this is no verdict")
	case v.phi != nil:
		l.exitByPhi(in, i, v.phi)
	default:
		l.exit(v)
	}
}

// exitByPhi ends the guard on each edge into the return with that edge's verdict.
func (l *lowerer) exitByPhi(in *instance, i *ssa.Return, p *ssa.Phi) {
	b := i.Block()
	plainReturn := p.Block() == b
	for _, instr := range b.Instrs {
		switch instr.(type) {
		case *ssa.Phi, *ssa.Return, *ssa.DebugRef:
		default:
			plainReturn = false
		}
	}
	if !plainReturn {
		l.fail("return each verdict where it is made", "the verdict depends on a condition and is not returned at once")
		return
	}
	for k := range in.edges {
		e := &in.edges[k]
		if e.to != b {
			continue
		}
		v := l.eval(in, p.Edges[e.index]).verdict
		if v == nil || v.phi != nil {
			l.fail("return each verdict where it is made", "the verdict depends on more than one condition")
			return
		}
		l.start(e.at)
		l.exit(v)
	}
	// No edge arrives here any more.
	l.start(&block{})
}
