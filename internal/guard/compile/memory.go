package compile

import (
	"go/types"
	"math"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// nilGuard is how far above a nil pointer a read still faults by itself; reads
// further away check the pointer first.
const nilGuard = 4096

// lowestAddr is where readable memory can begin: reads below it fault.
const lowestAddr = 64 << 10

// load lowers *x.
func (l *lowerer) load(x value, i *ssa.UnOp) value {
	if x.object != nil {
		l.fail("call its methods", "a %s cannot be copied", typeName(i.Type()))
		return value{}
	}
	if x.place != nil {
		return l.loadPlace(x.place, i)
	}
	t := i.Type()
	if !l.canRead(t) {
		return value{}
	}
	all, ok := l.m.leaves(t)
	if !ok {
		l.fail("use a pointer to it and read the fields that are needed", "a %s is too large to be copied", typeName(t))
		return value{}
	}
	if indexedByValue(i) {
		return l.snapshot(x, i, all)
	}
	if len(all) > maxParts {
		l.fail("use a pointer to it and read the fields that are needed", "a %s is too large to be copied", typeName(t))
		return value{}
	}
	base := l.checked(x, l.m.sizes.Sizeof(t))
	var v value
	for _, leaf := range all {
		v.parts = append(v.parts, l.loadLeaf(base, x.off+leaf.off, leaf))
	}
	return v
}

// canRead refuses types that are not in the target's memory.
func (l *lowerer) canRead(t types.Type) bool {
	if size := l.m.sizes.Sizeof(t); size < 0 || size > largest { // of a generic function
		l.fail("declare only the part of the target's struct that the guard reads", "the type is larger than %d bytes", largest)
		return false
	}
	if !l.m.readable(t) {
		l.fail("declare integers, pointers, and structs and arrays of these; a Go string is a libpie.GoString", "a %s cannot be read from the target", typeName(t))
		return false
	}
	return true
}

// checked returns a pointer's base for accesses below x.off+size.
func (l *lowerer) checked(x value, size int64) operand {
	if len(x.parts) != 1 {
		l.fail("", "this is no pointer into the target")
		return operand{}
	}
	if x.off+size > nilGuard {
		l.faultIf(bpf.JmpLT, x.parts[0], operand{c: lowestAddr})
	}
	return l.inReg(x.parts[0])
}

// loadLeaf reads one scalar of the target.
func (l *lowerer) loadLeaf(base operand, off int64, t leaf) operand {
	if off > math.MaxInt16 || off < math.MinInt16 {
		base, off = l.alu(bpf.AluADD, base, operand{c: off}), 0
	}
	r := l.emitTo(insn{op: opLoad, a: base, off: int32(off), size: t.size, signed: t.signed})
	return l.cooked(r, t)
}

// cooked notes what a fresh load of a leaf can be; any byte can stand where a
// bool should.
func (l *lowerer) cooked(r operand, t leaf) operand {
	if t.isBool {
		l.bound(r, 255)
		return l.truth(r)
	}
	return l.bound(r, widest(t))
}

// fieldAddr lowers &x.f.
func (l *lowerer) fieldAddr(in *instance, i *ssa.FieldAddr) value {
	x := l.eval(in, i.X)
	ptr := i.X.Type().Underlying().(*types.Pointer)
	st := ptr.Elem().Underlying().(*types.Struct)
	if x.place != nil {
		return value{place: l.fieldPlace(x.place, st, i.Field)}
	}
	if named, ok := types.Unalias(ptr.Elem()).(*types.Named); ok && !isLib(named, "GoString") {
		l.mirrors[named] = true
	}
	if !l.canRead(ptr.Elem()) || len(x.parts) != 1 {
		return value{}
	}
	return value{parts: x.parts, off: x.off + l.m.sizes.Offsetsof(structFields(st))[i.Field]}
}

// indexAddr lowers &x[i] for a pointer to an array.
func (l *lowerer) indexAddr(in *instance, i *ssa.IndexAddr) value {
	ptr, ok := i.X.Type().Underlying().(*types.Pointer)
	if !ok {
		return l.sliceElement(in, i)
	}
	array := ptr.Elem().Underlying().(*types.Array)
	x, index := l.eval(in, i.X), l.scalar(in, i.Index)
	l.faultIf(bpf.JmpGE, index, operand{c: array.Len()})
	if l.err != nil {
		return value{}
	}
	if x.place != nil {
		return value{place: l.indexPlace(x.place, array, index)}
	}
	if !l.canRead(array) || len(x.parts) != 1 {
		return value{}
	}
	size := l.m.sizes.Sizeof(array.Elem())
	if index.isConst() {
		return value{parts: x.parts, off: x.off + index.c*size}
	}
	base := l.checked(x, l.m.sizes.Sizeof(array))
	return value{parts: []operand{l.alu(bpf.AluADD, base, l.alu(bpf.AluMUL, index, operand{c: size}))}, off: x.off}
}

// field lowers x.f of a struct value.
func (l *lowerer) field(in *instance, i *ssa.Field) value {
	x := l.eval(in, i.X)
	st := i.X.Type().Underlying().(*types.Struct)
	from := 0
	for k := range i.Field {
		from += l.m.width(st.Field(k).Type())
	}
	to := from + l.m.width(st.Field(i.Field).Type())
	if to > len(x.parts) {
		l.fail("", "a guard cannot take %s apart", typeName(i.X.Type()))
		return value{}
	}
	return value{parts: x.parts[from:to]}
}

// index lowers x[i] of an array value or a constant string.
func (l *lowerer) index(in *instance, i *ssa.Index) value {
	x, index := l.eval(in, i.X), l.scalar(in, i.Index)
	if s, ok := l.constText(x); ok {
		return one(l.indexText(s, index))
	}
	if isText(i.X.Type()) && len(x.parts) == 2 {
		return one(l.indexChosen(x, index))
	}
	array, ok := i.X.Type().Underlying().(*types.Array)
	if !ok {
		l.fail("c.Bytes and At read memory of the target", "a guard cannot index a %s", typeName(i.X.Type()))
		return value{}
	}
	l.faultIf(bpf.JmpGE, index, operand{c: array.Len()})
	if l.err != nil {
		return value{}
	}
	if x.place != nil {
		return l.loadAt(l.indexPlace(x.place, array, index), array.Elem())
	}
	if !index.isConst() {
		p := l.keep(x, i.X.Type())
		if p == nil {
			return value{}
		}
		return l.loadAt(l.indexPlace(p, array, index), array.Elem())
	}
	n := l.m.width(array.Elem())
	return value{parts: x.parts[int(index.c)*n : (int(index.c)+1)*n]}
}

// indexText reads a byte of a constant string.
func (l *lowerer) indexText(s string, index operand) operand {
	l.faultIf(bpf.JmpGE, index, operand{c: int64(len(s))})
	if index.isConst() {
		if index.c >= 0 && index.c < int64(len(s)) {
			return operand{c: int64(s[index.c])}
		}
		return constant0
	}
	table := l.emitTo(insn{op: opRodata, off: l.text(s)})
	return l.loadLeaf(l.alu(bpf.AluADD, table, index), 0, leaf{size: 1})
}

// text returns where s is in rodata.
func (l *lowerer) text(s string) int32 {
	at, ok := l.texts[s]
	if !ok {
		at = int32(len(l.rodata))
		l.rodata = append(l.rodata, s...)
		l.texts[s] = at
		if len(l.rodata) > maxText {
			l.fail("", "the guard has more than %d KiB of constant strings", maxText>>10)
		}
	}
	return at
}

// indexedByValue reports whether the array that i loads is indexed by a variable.
func indexedByValue(i *ssa.UnOp) bool {
	if _, ok := i.Type().Underlying().(*types.Array); !ok {
		return false
	}
	for _, r := range *i.Referrers() {
		if x, ok := r.(*ssa.Index); ok && x.X == i {
			if _, isConst := x.Index.(*ssa.Const); !isConst {
				return true
			}
		}
	}
	return false
}
