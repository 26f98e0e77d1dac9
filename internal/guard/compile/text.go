package compile

import (
	"encoding/binary"
	"go/types"
	"strings"
	"unicode/utf8"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A string that is chosen when the guard runs, from a table or by a condition, is two
// words: where it is in the guard's constants, and its length. Both are numbers, so that
// they can be kept and joined like others; whoever reads the string checks them against
// the last place and the greatest length of all, which is what verification believes.
// Equal strings are at one place, and the empty one is at 0, so that == compares words.

// isText reports whether t is string, or has it as its underlying type.
func isText(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

// chosen is what is known of the strings that the guard chooses from.
type chosen struct {
	at      map[int64]string  // by place, without the empty one
	tables  map[*alloc]string // bytes of tables that have strings, with the places of those
	last    int64             // the greatest place
	longest int64
	places  []*block // end in a check of a place, and of a length: settleTexts has the numbers
	lengths []*block
}

func newChosen() chosen {
	return chosen{at: map[int64]string{}, tables: map[*alloc]string{}}
}

// textParts is a constant string as two words.
func (l *lowerer) textParts(s string) value {
	if s == "" {
		return value{parts: []operand{constant0, constant0}}
	}
	at := int64(l.text(s))
	l.chosen.at[at] = s
	l.chosen.last, l.chosen.longest = max(l.chosen.last, at), max(l.chosen.longest, int64(len(s)))
	return value{parts: []operand{{c: at}, {c: int64(len(s))}}}
}

// constText returns a string that is known.
func (l *lowerer) constText(v value) (s string, ok bool) {
	switch {
	case v.text != nil:
		return *v.text, true
	case len(v.parts) != 2 || !v.parts[0].isConst() || !v.parts[1].isConst():
		return "", false
	case v.parts[1].c == 0:
		return "", true
	}
	s, ok = l.chosen.at[v.parts[0].c]
	return s, ok && int64(len(s)) == v.parts[1].c
}

// tableBytes is a table as it stands in the constants.
func (l *lowerer) tableBytes(a *alloc) string {
	if len(a.texts) == 0 {
		return a.table
	}
	if s, ok := l.chosen.tables[a]; ok {
		return s
	}
	bytes := []byte(a.table)
	for _, t := range a.texts {
		for k, o := range l.textParts(t.s).parts {
			binary.LittleEndian.PutUint64(bytes[t.at+8*int64(k):], uint64(o.c))
		}
	}
	l.chosen.tables[a] = string(bytes)
	return l.chosen.tables[a]
}

// chosenText is the address and the length of a string that is chosen.
func (l *lowerer) chosenText(v value) (at, n operand) {
	check := func(o operand, blocks *[]*block) {
		if o.isConst() {
			return
		}
		next := l.newBlock()
		l.cur.end, l.cur.cond, l.cur.a, l.cur.pos = endBranch, bpf.JmpGT, o, l.pos
		l.cur.to = [2]*block{l.faultBlock(), next}
		*blocks = append(*blocks, l.cur)
		l.start(next)
	}
	check(v.parts[0], &l.chosen.places)
	check(v.parts[1], &l.chosen.lengths)
	if v.parts[0].isConst() {
		return l.emitTo(insn{op: opRodata, off: int32(v.parts[0].c)}), v.parts[1]
	}
	return l.alu(bpf.AluADD, l.emitTo(insn{op: opRodata}), v.parts[0]), v.parts[1]
}

// settleTexts fills in what strings are checked against, and makes room for the longest
// behind the last, and for the pieces in which strings are compared.
func (l *lowerer) settleTexts() {
	c := &l.chosen
	for _, b := range c.places {
		b.b = operand{c: c.last}
	}
	for _, b := range c.lengths {
		b.b = operand{c: c.longest}
	}
	if len(c.places)+len(c.lengths) > 0 {
		room := c.last + max(c.longest, maxInlineText+8)
		l.rodata = append(l.rodata, make([]byte, max(0, room-int64(len(l.rodata))))...)
	}
}

// indexChosen reads a byte of a string that is chosen.
func (l *lowerer) indexChosen(v value, index operand) operand {
	at, n := l.chosenText(v)
	l.faultIf(bpf.JmpGE, index, n)
	return l.loadLeaf(l.alu(bpf.AluADD, at, index), 0, leaf{size: 1})
}

// chosenArg returns argument k if it is a string that is chosen.
func (s *site) chosenArg(k int) (v value, ok bool) {
	v = s.args[k]
	_, known := s.constText(v)
	return v, !known && len(v.parts) == 2
}

// findChosen is find for a string that is chosen; the empty one is at 0.
func (s *site) findChosen(a, n operand, v value) operand {
	at, m := s.chosenText(v)
	r := s.newReg()
	empty, search, done := s.newBlock(), s.newBlock(), s.newBlock()
	s.branch(bpf.JmpEQ, m, constant0, empty, search)
	s.start(empty)
	s.emit(insn{op: opMov, dst: r})
	s.jump(done)
	s.start(search)
	s.emit(insn{op: opMov, dst: r, a: s.helper(bpf.HelperFind, a, n, at, m)})
	s.jump(done)
	s.start(done)
	return operand{r: r}
}

// matchesChosen is matches for a string that is chosen. It reads the same pieces in the
// same order as libpie's own comparison: 8 bytes as long as there are as many, then 4, 2
// and 1; strings longer than maxInlineText by a helper.
func (s *site) matchesChosen(a, n operand, v value, cond uint8, atEnd bool) operand {
	at, m := s.chosenText(v)
	r := s.newReg()
	long, yes, no, done := s.newBlock(), s.newBlock(), s.newBlock(), s.newBlock()
	s.branch(cond, n, m, long, no)
	s.start(long)
	if atEnd {
		a = s.alu(bpf.AluADD, a, s.alu(bpf.AluSUB, n, m))
	}
	if s.m.longTexts {
		byHelper, inPieces := s.newBlock(), s.newBlock()
		s.branch(bpf.JmpGT, m, operand{c: maxInlineText}, byHelper, inPieces)
		s.start(byHelper)
		s.branch(bpf.JmpNE, s.helper(bpf.HelperEqual, a, m, at, m), constant0, yes, no)
		s.start(inPieces)
	}
	s.pieces(s.mov(a), s.mov(at), s.mov(m), no)
	s.jump(yes)
	return s.outcome(r, yes, no, done)
}

// pieces compares left bytes, at most maxInlineText, from a and b on, which move, and
// goes to no where they differ.
func (s *site) pieces(a, b, left operand, no *block) {
	piece := func(size int64) {
		same := s.newBlock()
		s.branch(bpf.JmpEQ, s.loadLeaf(a, 0, leaf{size: uint8(size)}), s.loadLeaf(b, 0, leaf{size: uint8(size)}), same, no)
		s.start(same)
		for _, moved := range []operand{a, b} {
			s.emit(insn{op: opALU, alu: bpf.AluADD, dst: moved.r, a: moved, b: operand{c: size}})
		}
		s.emit(insn{op: opALU, alu: bpf.AluSUB, dst: left.r, a: left, b: operand{c: size}})
	}
	rest := s.newBlock()
	for range maxInlineText / 8 {
		next := s.newBlock()
		s.branch(bpf.JmpLT, left, operand{c: 8}, rest, next)
		s.start(next)
		piece(8)
	}
	s.jump(rest)
	s.start(rest)
	for _, size := range []int64{4, 2, 1} {
		have, next := s.newBlock(), s.newBlock()
		s.branch(bpf.JmpLT, left, operand{c: size}, next, have)
		s.start(have)
		piece(size)
		s.jump(next)
		s.start(next)
	}
}

// rangeText lowers the beginning of a loop over a string: where it is. Characters are
// bytes as long as the string has no others.
func (l *lowerer) rangeText(in *instance, i *ssa.Range) value {
	s, ok := l.constText(l.eval(in, i.X))
	if !ok {
		l.fail("for i := range len(s) goes over the bytes of a string, s[i]", "a guard can range over the characters of constant text only")
		return value{}
	}
	return value{text: &s, parts: []operand{l.mov(constant0)}}
}

// A rune table has four bytes of the index and four of the character for each round of
// a loop over a string that is not ASCII.
func runeTable(s string) (table string, rounds int64) {
	var b []byte
	for at, char := range s {
		b = binary.LittleEndian.AppendUint32(b, uint32(at))
		b = binary.LittleEndian.AppendUint32(b, uint32(char))
		rounds++
	}
	return string(b), rounds
}

// nextRune lowers a round of a loop over a string: whether there is one, its index and
// its character.
func (l *lowerer) nextRune(in *instance, i *ssa.Next) value {
	over := l.eval(in, i.Iter)
	if over.text == nil || len(over.parts) != 1 {
		l.fail("", "a guard cannot range over this")
		return value{}
	}
	at, s := over.parts[0], *over.text
	ascii := strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
	table, rounds := s, int64(len(s))
	if !ascii {
		table, rounds = runeTable(s)
	}
	more, index, char := l.newReg(), l.newReg(), l.newReg()
	yes, no, done := l.newBlock(), l.newBlock(), l.newBlock()
	l.branch(bpf.JmpLT, at, operand{c: rounds}, yes, no)
	l.start(yes)
	l.emit(insn{op: opMov, dst: more, a: operand{c: 1}})
	base := l.emitTo(insn{op: opRodata, off: l.text(table)})
	if ascii {
		l.emit(insn{op: opMov, dst: index, a: at})
		l.emit(insn{op: opMov, dst: char, a: l.loadLeaf(l.alu(bpf.AluADD, base, at), 0, leaf{size: 1})})
	} else {
		entry := l.alu(bpf.AluADD, base, l.alu(bpf.AluMUL, at, operand{c: 8}))
		l.emit(insn{op: opMov, dst: index, a: l.loadLeaf(entry, 0, leaf{size: 4})})
		l.emit(insn{op: opMov, dst: char, a: l.loadLeaf(entry, 4, leaf{size: 4})})
	}
	l.emit(insn{op: opALU, alu: bpf.AluADD, dst: at.r, a: at, b: operand{c: 1}})
	l.jump(done)
	l.start(no)
	for _, r := range []reg{more, index, char} {
		l.emit(insn{op: opMov, dst: r})
	}
	l.jump(done)
	l.start(done)
	return value{tuple: []value{one(l.bound(operand{r: more}, 1)), one(operand{r: index}), one(l.bound(operand{r: char}, utf8.MaxRune))}}
}
