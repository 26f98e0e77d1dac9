package jit

// functions writes what function literals are for: those that use the variables of the
// guard, and each other, and are named, given to functions, returned or called at once.
// What a literal changes is not read in the statement that calls it: Go leaves open which
// comes first.
func (p *goProgram) functions(kind, depth int) {
	f, g, t := p.name("f"), p.name("g"), goKinds[kind]
	n := p.r.IntN(8)
	if n == 5 && p.silent {
		n = 6
	}
	switch n {
	case 0:
		p.line("{ %s := func(x %s) %s { v6 += int64(x); return %s }", f, t, t, p.expr(kind, 2))
		p.line("\tx := %s(%s)", f, p.expr(kind, 1))
		p.line("\ty := %s(x ^ %s); %s = x - y }", f, p.v(kind), p.v(kind))
	case 1:
		p.line("{ %s := func(x uint8) int64 { v1 += x; return int64(v1) * %s }", f, p.one("3", "v6", "int64(arr[x&7])", "int64(pr.x)"))
		p.line("\t%s := func() int64 { return %s(%s) ^ %s(2) }", g, f, p.expr(1, 1), f)
		p.line("\tif %s { v6 -= %s() } else { v6 ^= %s()<<3 + %s(1) } }", p.cond(1), g, g, f)
	case 2:
		p.line("v6 ^= applied(func(x int64) int64 { arr[x&7]++; return x + int64(%s) }, int64(%s))", p.expr(kind, 1), p.expr(kind, 1))
	case 3:
		p.line("{ %s, %s := counter(int64(%s)), counter(v6); v6 = %s() + %s()*%s() - %s() }", f, g, p.expr(kind, 1), f, g, f, g)
	case 4:
		p.line("v6 += int64(counted(%s, func(i uint8) bool { dp.q[i&1].x += uint16(i); return m.At(int(i)) != byte(%s) || %s }))", p.v(1), p.v(kind), p.cond(0))
	case 7:
		p.line("{ own := []int32{v4, %s, -1}; %s := func(i uint8) { own[i&1] = own[i&1]*3 + own[2] + %s }", p.expr(4, 1), f, p.v(4))
		p.line("\t%s(v1); %s(%s); v4 ^= own[0] - own[1] }", f, f, p.expr(1, 1))
	case 5:
		p.line("if %s { return func() libpie.Verdict {", p.cond(1))
		p.within(depth, false)
		p.line("\treturn %s }() }", p.verdict(kind))
	default:
		p.line("{ %s := func(%s uint8) {", f, g)
		p.within(depth, true)
		p.line("\tv6 += int64(%s) }", g)
		p.line("\t%s(v1); if %s { %s(%s) } }", f, p.cond(1), f, p.expr(1, 1))
	}
}

// within writes the body of a literal, from which no loop around it can be left, and with
// silent no verdict be given.
func (p *goProgram) within(depth int, silent bool) {
	labels, was := p.labels, p.silent
	p.labels, p.silent = nil, silent
	p.block(min(depth-1, 1))
	p.labels, p.silent = labels, was
}
