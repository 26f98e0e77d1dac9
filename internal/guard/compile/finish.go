package compile

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// maxUnit is how many instructions a guard may have, as verify has it too; a
// jump reaches twice as far.
const maxUnit = 16 << 10

// finish turns the lowered guard into a unit.
func (l *lowerer) finish(g source.Guard) (*bpf.Unit, *Error) {
	entry := l.blocks[0]
	onFault := l.landing(g.OnFault)
	onFuel := onFault
	if g.OnFuel.String() != g.OnFault.String() {
		onFuel = l.landing(g.OnFuel)
	}
	if l.err != nil {
		return nil, l.err
	}
	l.settleTexts()
	threadJumps(l.blocks)
	order := layout(entry)
	if l.fault != nil && holds(order, l.fault) {
		// The fault block runs on into the landing, so it comes last.
		order = append(without(order, l.fault), l.fault)
	}
	order = append(order, onFault)
	if onFuel != onFault {
		order = append(order, onFuel)
	}
	for i, b := range order {
		b.id = i
	}
	l.legalize(order)
	colors, err := l.assign(order)
	if err != nil {
		return nil, err
	}
	e := emitter{l: l, order: order, color: colors}
	u := e.unit(onFault, onFuel)
	u.Name = g.Name
	if len(u.Insns) > maxUnit {
		return nil, &Error{Pos: l.m.place(entry.pos), Msg: fmt.Sprintf("the guard is too large: %d instructions, more than %d", len(u.Insns), maxUnit), Instead: "a guard is a short check"}
	}
	return u, nil
}

// landing is the block of an onfault or onfuel.
func (l *lowerer) landing(a source.Action) *block {
	b := l.newBlock()
	l.start(b)
	l.base = landingReg
	l.exit(action(a))
	l.base = frameReg
	return b
}

func holds(blocks []*block, b *block) bool {
	for _, x := range blocks {
		if x == b {
			return true
		}
	}
	return false
}

func without(blocks []*block, b *block) []*block {
	var rest []*block
	for _, x := range blocks {
		if x != b {
			rest = append(rest, x)
		}
	}
	return rest
}

// layout orders the blocks that can be reached, each soon after one that leads
// to it.
func layout(entry *block) []*block {
	type frame struct {
		b    *block
		next int
	}
	seen := map[*block]bool{entry: true}
	stack := []frame{{b: entry}}
	var post []*block
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		succs := top.b.succs()
		if top.next == len(succs) {
			post = append(post, top.b)
			stack = stack[:len(stack)-1]
			continue
		}
		top.next++
		if s := succs[len(succs)-top.next]; !seen[s] {
			seen[s] = true
			stack = append(stack, frame{b: s})
		}
	}
	for i, j := 0, len(post)-1; i < j; i, j = i+1, j-1 {
		post[i], post[j] = post[j], post[i]
	}
	return post
}

// legalize moves constants that no instruction can hold into registers.
func (l *lowerer) legalize(order []*block) {
	for _, b := range order {
		old := b.insns
		b.insns = nil
		l.cur = b
		toReg := func(o *operand) {
			if o.isConst() && int64(int32(o.c)) != o.c {
				*o = l.mov(*o)
			}
		}
		for k := range old {
			l.pos = old[k].pos
			if old[k].op != opMov && old[k].op != opCall {
				toReg(&old[k].b)
			}
			b.insns = append(b.insns, old[k])
		}
		if b.end == endBranch {
			l.pos = b.pos
			toReg(&b.b)
		}
	}
}
