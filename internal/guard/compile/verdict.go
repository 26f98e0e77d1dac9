package compile

import (
	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// verdict is a libpie.Verdict. Nothing is stored before the guard returns it:
// the frame's result words are written once, on the way out.
type verdict struct {
	kind    bpf.Verdict
	results []result
	errno   *operand
	float   *operand // bits
	code    *operand
	phi     *ssa.Phi // one of several, by condition
}

// result is a libpie.Result: a word, or the two words of a variable.
type result struct {
	word  operand
	goVar string
}

// words is how many result words the verdict has.
func (v *verdict) words() int {
	n := 0
	for _, r := range v.results {
		if n++; r.goVar != "" {
			n++
		}
	}
	return n
}

// exit ends the guard with v.
func (l *lowerer) exit(v *verdict) {
	if v.words() > bpf.FrameResults {
		l.fail("", "a function returns at most %d words in registers", bpf.FrameResults)
		return
	}
	off := int32(bpf.FrameResult)
	store := func(o operand) {
		l.setFrame(off, o)
		off += 8
	}
	for _, r := range v.results {
		if r.goVar == "" {
			store(r.word)
			continue
		}
		at := l.emitTo(insn{op: opSymbol, off: l.symbol(bpf.Symbol{Name: r.goVar, Kind: bpf.SymbolGoError})})
		first := l.emitTo(insn{op: opLoad, a: at, size: 8})
		store(first)
		store(l.emitTo(insn{op: opLoad, a: at, off: 8, size: 8}))
	}
	code := v.kind
	switch v.kind {
	case bpf.VerdictReject:
		code = bpf.Reject(v.words(), 0)
	case bpf.VerdictRewrite:
		code = bpf.Rewrite(l.rewrites)
	}
	if v.float != nil {
		l.setFrame(bpf.FrameXMM0, *v.float)
		code |= bpf.VerdictXMM0
	}
	if v.errno != nil {
		l.setFrame(bpf.FrameErrno, *v.errno)
		code |= bpf.VerdictErrno
	}
	if v.code != nil {
		l.setFrame(bpf.FrameCode, *v.code)
	}
	l.cur.end, l.cur.verdict, l.cur.pos = endExit, code, l.pos
}

// symbol returns the index of s, which is added once.
func (l *lowerer) symbol(s bpf.Symbol) int32 {
	for i, known := range l.symbols {
		if known == s {
			return int32(i)
		}
	}
	l.symbols = append(l.symbols, s)
	return int32(len(l.symbols) - 1)
}

// action returns the verdict a directive asks for.
func action(a source.Action) *verdict {
	v := &verdict{kind: bpf.VerdictReject}
	switch a.Kind {
	case source.ActionPass:
		return &verdict{}
	case source.ActionValue:
		v.results = []result{{word: operand{c: a.Value}}}
	case source.ActionNull:
		v.results = []result{{}}
	case source.ActionErrno:
		v.results = []result{{word: operand{c: a.Value}}}
		v.errno = &operand{c: int64(a.Errno)}
	case source.ActionGo:
		for _, w := range a.Words {
			v.results = append(v.results, result{word: operand{c: w}})
		}
		if a.GoError != "" {
			v.results = append(v.results, result{goVar: a.GoError})
		}
	}
	return v
}
