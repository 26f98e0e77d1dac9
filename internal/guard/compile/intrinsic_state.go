package compile

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// declared refuses a state variable that is made anywhere but where it is
// declared.
func declared(s *site) value {
	s.fail("var x = libpie."+s.name+"(…) outside of functions", "state is made where a package-level variable is declared")
	return value{}
}

// state is argument 0, a pointer to a state variable.
func (s *site) state() *object {
	if o := s.args[0].object; o != nil {
		return o
	}
	s.fail("declare it outside of functions, and use it by its name", "this is no package-level variable of the prepatch")
	return nil
}

// wordAt returns the address of a word of an object: a register, and an offset.
func (l *lowerer) wordAt(o *object, i operand) (base operand, off int32) {
	if i.isConst() {
		return l.emitTo(insn{op: opState, off: int32(o.off + 8*i.c)}), 0
	}
	start := l.emitTo(insn{op: opState, off: int32(o.off)})
	return l.alu(bpf.AluADD, start, l.alu(bpf.AluLSH, i, operand{c: 3})), 0
}

// words lowers a function of package words.
func (l *lowerer) words(name string, args []value) value {
	o := args[0].object
	if o == nil || len(args) < 2 {
		l.fail("", "this is no state")
		return value{}
	}
	base, off := l.wordAt(o, args[1].parts[0])
	switch name {
	case "Load":
		return one(l.emitTo(insn{op: opLoad, a: base, off: off, size: 8}))
	case "Store":
		l.emit(insn{op: opStore, a: base, off: off, size: 8, b: args[2].parts[0]})
		return value{}
	case "Add":
		return one(l.emitTo(insn{op: opFetchAdd, a: base, off: off, b: args[2].parts[0]}))
	case "Swap":
		return one(l.emitTo(insn{op: opSwapWord, a: base, off: off, b: l.inReg(args[3].parts[0]), args: []operand{args[2].parts[0]}}))
	}
	l.fail("", "words.%s is no instruction", name)
	return value{}
}

// library inlines a function of package state.
func (s *site) library(name string, args ...value) []value {
	if s.err != nil {
		return nil
	}
	s.lowerer.library = true
	out := s.lowerer.call(&function{fn: s.m.state.Func(name)}, args, false)
	s.lowerer.library = false
	return out
}

// table inlines a function of package state that takes a table, its seed, its
// last row, a key, and others.
func (s *site) table(name string, o *object, key operand, others ...operand) []value {
	if s.err != nil || o == nil {
		return nil
	}
	seed := s.emitTo(insn{op: opLoad, a: s.emitTo(insn{op: opState, off: bpf.StateSeed}), size: 8})
	args := []value{{object: o}, one(seed), one(operand{c: o.rows - 1}), one(key)}
	for _, x := range others {
		args = append(args, one(x))
	}
	return s.library(name, args...)
}

// as returns a word of the state as an element of the object: the low bytes,
// extended.
func (s *site) as(v []value, t leaf) value {
	if len(v) == 0 || len(v[0].parts) == 0 {
		return value{parts: []operand{constant0}}
	}
	if t.isBool {
		return one(s.truth(v[0].parts[0]))
	}
	return one(s.extend(v[0].parts[0], t))
}

func counterAdd(s *site) value {
	o, n := s.state(), s.word(2)
	if s.err != nil {
		return value{}
	}
	was := s.lowerer.words("Add", []value{{object: o}, one(constant0), one(n)})
	return one(s.alu(bpf.AluADD, was.parts[0], n))
}

func counterValue(s *site) value {
	o := s.state()
	if s.err != nil {
		return value{}
	}
	return s.lowerer.words("Load", []value{{object: o}, one(constant0)})
}

func counterSet(s *site) value {
	o, n := s.state(), s.word(2)
	if s.err != nil {
		return value{}
	}
	return s.lowerer.words("Store", []value{{object: o}, one(constant0), one(n)})
}

// two is the results of a function of two, the first as an element.
func (s *site) two(v []value, t leaf) value {
	if len(v) != 2 {
		return value{tuple: []value{one(constant0), one(constant0)}}
	}
	return value{tuple: []value{s.as(v, t), v[1]}}
}

func mapGet(s *site) value {
	o, k := s.state(), s.word(2)
	v := s.table("Get", o, k)
	if o == nil {
		return value{}
	}
	return s.two(v, o.elem[1])
}

func mapPut(s *site) value {
	o, k, v := s.state(), s.word(2), s.word(3)
	if out := s.table("Put", o, k, v); len(out) == 1 {
		return out[0]
	}
	return value{}
}

func mapAdd(s *site) value {
	o, k, n := s.state(), s.word(2), s.word(3)
	v := s.table("Add", o, k, n)
	if o == nil {
		return value{}
	}
	return s.two(v, o.elem[1])
}

func mapDelete(s *site) value {
	o, k := s.state(), s.word(2)
	s.table("Delete", o, k)
	return value{}
}

func threadGet(s *site) value {
	o := s.state()
	v := s.table("Get", o, s.helper(bpf.HelperThread))
	if o == nil {
		return value{}
	}
	return s.as(v, o.elem[0])
}

func threadSet(s *site) value {
	o, v := s.state(), s.word(2)
	s.table("SetOwn", o, s.helper(bpf.HelperThread), v)
	return value{}
}

func threadAdd(s *site) value {
	o, n := s.state(), s.word(2)
	v := s.table("AddOwn", o, s.helper(bpf.HelperThread), n)
	if o == nil {
		return value{}
	}
	return s.as(v, o.elem[0])
}

func limiterAllow(s *site) value {
	o, k := s.state(), s.word(2)
	if o == nil {
		return value{}
	}
	full := operand{}
	if o.fullAllows {
		full.c = 1
	}
	if out := s.table("Allow", o, k, s.helper(bpf.HelperNow), operand{c: o.each}, operand{c: o.most}, full); len(out) == 1 {
		return out[0]
	}
	return value{}
}
