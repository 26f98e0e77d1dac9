package fingerprint

import "encoding/binary"

// The section of a .pf file with the builds that it carries whole, from version 5 on: a
// version of its own, and then, for each build of the file, the functions it has, 0 where it
// is not there whole. Columns follow one another, as what is alike deflates well.

// wholeVersion is the version of the section.
const wholeVersion = 1

func (w *writer) wholes(refs []Reference) {
	w.number(wholeVersion)
	for i := range refs {
		if refs[i].Whole == nil {
			w.number(0)
			continue
		}
		w.whole(refs[i].Whole)
		w.number(uint64(refs[i].Node))
	}
}

func (w *writer) whole(x *Whole) {
	w.number(uint64(len(x.nodes)))
	for i := range x.nodes {
		w.number(uint64(x.nodes[i].insns))
	}
	for k := range keys {
		for i := range x.nodes {
			w.hash(keys[k].of(&x.nodes[i]))
		}
	}
	for i := range x.nodes {
		w.number(uint64(len(x.calls.of(i))))
	}
	for i := range x.nodes {
		last := int32(0)
		for _, j := range x.calls.of(i) {
			w.number(uint64(j - last))
			last = j
		}
	}
}

// hash writes what is 0 in one byte, and else 1 and hashBits.
func (w *writer) hash(h uint64) {
	if h == 0 {
		w.b = append(w.b, 0)
		return
	}
	b := binary.BigEndian.AppendUint64(nil, h)
	w.b = append(append(w.b, 1), b[8-hashBits/8:]...)
}

func (r *reader) wholes(refs []Reference) {
	if v := r.number(1 << 16); r.bad == "" && v != wholeVersion {
		r.fail("builds that are there whole in version %d, and this program reads %d", v, wholeVersion)
	}
	for i := 0; i < len(refs) && r.bad == ""; i++ {
		refs[i].Whole = r.whole()
		if refs[i].Whole == nil {
			continue
		}
		refs[i].Node = int(r.number(uint64(len(refs[i].Whole.nodes) - 1)))
		if r.bad == "" && refs[i].Whole.nodes[refs[i].Node].insns != int32(refs[i].Target.Insns) {
			r.fail("the function is not what its build has")
		}
	}
}

// whole reads a build; what it allocates is bounded by the bytes there are.
func (r *reader) whole() *Whole {
	n := int(r.number(maxNodes))
	if n == 0 || r.bad != "" {
		return nil
	}
	if n > len(r.b) { // each takes several bytes
		r.fail("%d functions in %d bytes", n, len(r.b))
		return nil
	}
	x := &Whole{nodes: make([]node, n), calls: lists{ends: make([]int32, n)}}
	for i := range x.nodes {
		x.nodes[i].insns = int32(r.number(maxFunctionSize * (1 + maxParts)))
	}
	for _, set := range []func(*node, uint64){
		func(o *node, h uint64) { o.code = h }, func(o *node, h uint64) { o.outline = h }, func(o *node, h uint64) { o.said = h },
	} {
		for i := range x.nodes {
			set(&x.nodes[i], r.hash())
		}
	}
	r.calls(x)
	if r.bad != "" {
		return nil
	}
	x.called = x.calls.turned()
	return x
}

func (r *reader) hash() uint64 {
	if r.number(1) == 0 {
		return 0
	}
	b := r.take(hashBits / 8)
	if r.bad != "" {
		return 0
	}
	return binary.BigEndian.Uint64(append(make([]byte, 8-hashBits/8), b...))
}

// calls reads which function calls which: ascending, and none outside.
func (r *reader) calls(x *Whole) {
	n := len(x.nodes)
	total := 0
	for i := range x.calls.ends {
		total += int(r.number(uint64(n)))
		if total > maxNodeCalls || total > len(r.b) { // each takes a byte
			r.fail("more than %d calls in %d bytes", maxNodeCalls, len(r.b))
		}
		if r.bad != "" {
			return
		}
		x.calls.ends[i] = int32(total)
	}
	x.calls.all = make([]int32, 0, total)
	for i := range x.nodes {
		at, first := uint64(0), true
		for len(x.calls.all) < int(x.calls.ends[i]) {
			step := r.number(uint64(n))
			if at += step; r.bad == "" && (at >= uint64(n) || step == 0 && !first) {
				r.fail("a call of function %d of %d, or twice the same", at, n)
			}
			if r.bad != "" {
				return
			}
			x.calls.all = append(x.calls.all, int32(at))
			first = false
		}
	}
}
