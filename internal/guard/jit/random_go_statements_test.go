package jit

import "fmt"

func (p *goProgram) block(depth int) {
	p.indent += "\t"
	for range 1 + p.r.IntN(3) {
		p.statement(depth)
	}
	p.indent = p.indent[1:]
}

func (p *goProgram) statement(depth int) {
	kind := p.kind()
	switch n := p.r.IntN(26); {
	case n < 4 || depth == 0:
		p.assign(kind)
	case n < 6:
		p.line("if %s {", p.cond(2))
		p.block(depth - 1)
		p.line("} else {")
		p.block(depth - 1)
		p.line("}")
	case n < 9:
		p.loop(depth)
	case n < 11:
		p.choice(kind, depth)
	case n < 14:
		p.change(kind)
	case n == 14:
		x, y := p.name("x"), p.name("y")
		p.line("if %s, %s := %s, %s; %s < %s {", x, y, p.expr(kind, 2), p.expr(kind, 1), x, y)
		p.line("\tv%d := %s(%s)", kind, goKinds[kind], x) // another variable of that name
		p.block(depth - 1)
		p.line("\tv6 += int64(v%d)", kind)
		p.line("}")
	case n == 15:
		p.line("{ low, high, yes := parts(%s, %s); v4 ^= low; v2 += high; ok = ok != yes }", p.expr(6, 2), p.expr(1, 1))
	case n == 16:
		p.line("if n := %s; n %s %d { m = cut(m, n, %s) }", p.expr(6, 2), p.one("<", ">="), p.r.IntN(40), p.v(1))
	case n == 17:
		p.line("{ best, run := longest(m); v6 += int64(best)<<8 ^ int64(run) }")
	case n == 18 || n == 19:
		p.text(kind, depth)
	case n < 23 && p.acts > 0:
		p.acts--
		p.act(kind)
	case n == 24 || n == 25 && p.silent:
		p.functions(kind, depth)
	case p.silent:
		p.assign(kind)
	default:
		p.line("if %s { return %s }", p.cond(1), p.verdict(kind))
	}
}

// text writes what strings, lists and generic types are for.
func (p *goProgram) text(kind, depth int) {
	i, w := p.expr(kind, 1), p.name("w")
	switch p.r.IntN(10) {
	case 0:
		p.line("v6 += int64(m.Find(words[%s&7]))", i)
	case 1:
		p.line("for i, %s := range words { if %s != words[%s&7] && m.%s(%s) { v6 ^= int64(len(%s)) << i } }",
			w, w, i, p.one("HasPrefix", "HasSuffix", "Contains", "Equal"), w, w)
	case 2:
		p.line("{ r := rules[%s&3]; v6 -= int64(r.least); if m.Contains(r.also[v1&1]) { v6 += int64(len(r.name)) } }", i)
	case 3:
		p.line("v6 ^= anyOf(m, %s) + anyOf(m, words...)", p.one(`"a", "ab", "cab"`, `"b"`, ``, `"aaaaaaaa", "bb"`))
	case 4:
		p.line("{ %s := words[v1&7]; if %s { %s = \"ab\" }; if m.HasPrefix(%s) { v4 += int32(len(%s)) }; v6 += int64(%s[%s&1]) }", w, p.cond(1), w, w, w, w, i)
	case 5:
		p.line("{ own := []int32{v4, %s, 3}; halve(own); own[%s&3]++; v4 ^= total(own, v1&3) + total(arr[:], %s) + total([]int32{5, -7}, 1) }", p.expr(4, 1), i, p.expr(1, 1))
	case 6:
		p.line("for k, %s := range \"ba\\x00c\" { v6 = v6*5 + int64(m.Count(byte(%s))) + int64(k) }", w, w)
	case 7:
		p.line("{ var r ring[uint16]; r.put(v3); r.put(uint16(%s)); x, have := r.last(%s&3); v3, ok = x, have }", i, p.v(1))
	case 8:
		p.line("for %s := range m.Len() { if m.At(%s) %s uint8(%s) { v8%s }; if m.At(%s) > v1 { %s++ } }",
			w, w, p.one("==", "!=", "<", ">="), i, p.one("++", "--"), w, p.v(kind))
	default:
		p.line("for _, %s := range [...]string{\"a\", \"bc\", \"\"} {", w)
		p.line("\tif m.HasSuffix(%s) { v6 += int64(len(%s)) }", w, w)
		if depth > 1 {
			p.block(depth - 1)
		}
		p.line("}")
	}
}

func (p *goProgram) assign(kind int) {
	x := p.v(kind)
	switch p.r.IntN(6) {
	case 0:
		other := p.v(p.r.IntN(4))
		p.line("%s, pr.x, %s = %s, uint16(%s), %s", x, "v4", p.expr(kind, 2), other, p.expr(4, 1))
	case 1:
		p.line("%s %s= %s", x, p.one("+", "-", "*", "^", "&", "|", "&^"), p.expr(kind, 3))
	case 2:
		p.line("%s%s", x, p.one("++", "--"))
	default:
		p.line("%s = %s", x, p.expr(kind, 3))
	}
}

// change changes what is no number.
func (p *goProgram) change(kind int) {
	switch i := p.expr(kind, 1); p.r.IntN(12) {
	case 0:
		p.line("arr[v1&7] = %s", p.expr(4, 2))
		p.line("v4 ^= arr[%s&%d]", p.v(kind), []int{7, 7, 7, 15}[p.r.IntN(4)])
	case 1:
		p.line("pr.x, pr.y = pr.y+%s, %s", p.expr(3, 1), p.expr(3, 2))
		p.line("pr.add(v3)")
	case 2:
		p.line("dp.change(int64(%s))", i)
	case 3:
		p.line("*dp = changed(*dp, int64(%s))", i)
	case 4:
		p.line("{ was := *dp; dp.q[%s&1].x++; v6 += was.q[1].sum() - dp.q[0].sum() }", i)
	case 5:
		p.line("arr[%s&7], arr[0] = arr[0], arr[%s&7]", i, p.v(p.kind()))
	case 6:
		p.line("clear4(&arr, %s)", p.expr(1, 1))
	case 7:
		p.line("{ was := arr; arr[%s&7]++; for k, x := range was { v6 = v6*3 + int64(x) ^ int64(arr[k]) } }", i)
	case 8:
		p.line("lv = lv.next(); ok = %s", p.cond(1))
	case 9:
		p.line("{ q := &dp.q[v1&1]; r := *q; q.add(%s); v6 ^= q.sum() - r.sum() }", p.expr(3, 1))
	case 10:
		p.line("pr, dp.p = dp.p, pr.turned()")
	default:
		p.line("dp.p, dp.a = pair{%s, dp.p.x}, [3]int8{1: %s}", p.expr(3, 1), p.expr(0, 1))
	}
}

func (p *goProgram) loop(depth int) {
	label, i := p.name("loop"), p.name("i")
	p.labels = append(p.labels, label)
	p.line("%s:", label)
	switch p.r.IntN(6) {
	case 0, 1:
		p.line("for %s := uint8(0); %s < %d; %s++ {", i, i, 1+p.r.IntN(5), i)
	case 2:
		p.line("for %s := range %s & 3 {", i, p.expr(1, 1))
	case 3:
		p.line("for %s := int8(%d); %s >= 0; %s -= %d {", i, 3+p.r.IntN(5), i, i, 2+p.r.IntN(3))
	case 4:
		p.line("for _, %s := range [3]uint8{1, v1, uint8(v4)} {", i)
	default:
		p.line("for %s := (pair{1, %s & 3}); %s.x <= %s.y; %s.add(1) {", i, p.v(3), i, i, i)
		p.line("\tv6 += %s.sum()", i)
		i = i + ".x"
	}
	p.line("\tv1 ^= uint8(%s)", i)
	p.block(depth - 1)
	p.line("\tif %s { %s %s }", p.cond(1), p.one("break", "continue"), p.one(p.labels...))
	p.line("\tif %s { %s %s }", p.cond(0), p.one("break", "continue"), label)
	p.line("}")
	p.labels = p.labels[:len(p.labels)-1]
}

func (p *goProgram) choice(kind, depth int) {
	if p.r.IntN(2) == 0 {
		p.line("switch %s {", p.expr(kind, 1))
		p.line("case %d, %d:", p.r.IntN(60), 60+p.r.IntN(60))
	} else {
		p.line("switch x := %s; {", p.expr(kind, 1))
		p.line("case x < %d:", p.r.IntN(100))
	}
	p.block(depth - 1)
	if p.r.IntN(2) == 0 {
		p.line("\tfallthrough")
	}
	p.line("default:")
	p.block(depth - 1)
	p.line("}")
}

// act uses the state, writes, rewrites or calls.
func (p *goProgram) act(kind int) {
	x := p.expr(kind, 1)
	switch p.r.IntN(18) {
	case 0:
		p.line("v7 ^= hits.Add(c, uint64(%s))", x)
	case 1:
		p.line("hits.Set(c, hits.Value(c)^uint64(%s))", x)
	case 2:
		p.line("{ n, found := seen.Get(c, uint16(%s&15)); v4 ^= n; ok = ok != found }", x)
	case 3:
		p.line("ok = seen.Put(c, uint16(%s&15), %s)", x, p.v(4))
	case 4:
		p.line("{ sum, yes := seen.Add(c, uint16(%s&15), %s); v4 += sum; ok = ok == yes }", x, p.v(4))
	case 5:
		p.line("seen.Delete(c, uint16(%s&15))", x)
	case 6:
		p.line("{ sum, yes := wide.Add(c, int64(%s), %s); v7 += sum; ok = ok == yes }", x, p.v(7))
	case 7:
		p.line("{ byFlag.Put(c, %s, %s); n, found := byFlag.Get(c, ok); v1 ^= n; ok = found }", p.cond(1), p.v(1))
	case 8:
		p.line("v2 ^= depth.Add(c, int16(%s))", x)
	case 9:
		p.line("{ was := depth.Get(c); depth.Set(c, int16(%s)); v2 += was }", x)
	case 10, 11:
		p.line("if !%s { v5 = v5*3 + 1 }", p.one(fmt.Sprintf("rate.Allow(c, uint8(%s&7))", x), fmt.Sprintf("lenient.Allow(c, libpie.Addr(%s&3))", x)))
	case 12, 13:
		p.put(x)
	case 14:
		p.caps["write"] = true
		p.line("c.Zero(a+44, int(%s&7))", x)
	case 15:
		p.rewrite(x)
	default:
		p.invoke(x)
	}
}

func (p *goProgram) put(x string) {
	p.caps["write"] = true
	bits := []int{8, 16, 32, 64}[p.r.IntN(4)]
	p.line("c.Put%d(a+40+libpie.Addr(%s&15), uint%d(%s))", bits, x, bits, p.v(p.kind()))
}

func (p *goProgram) rewrite(x string) {
	p.caps["rewrite"] = true
	p.line("c.SetArg(%d, int64(%s))", 1+p.r.IntN(5), x)
}

// invoke calls a function of the program, which guards of Go functions cannot.
func (p *goProgram) invoke(x string) {
	if p.goABI {
		p.put(x)
		return
	}
	p.caps["call"] = true
	args := ""
	for range p.r.IntN(7) {
		args += fmt.Sprintf(", libpie.Word(%s)", p.v(p.kind()))
	}
	p.line("{ r := c.Invoke(\"fn\"%s); v7 ^= r.Word; v6 += int64(r.Double); v4 ^= int32(r.Errno) }", args)
}

// verdict is one of any kind that the guard may end with.
func (p *goProgram) verdict(kind int) string {
	x := p.expr(kind, 1)
	switch n := p.r.IntN(12); {
	case n == 0:
		return "libpie.Pass()"
	case n == 1:
		return "libpie.RejectVoid()"
	case n == 2:
		return fmt.Sprintf("libpie.RejectPtr(libpie.Addr(%s))", x)
	case n == 3 && !p.goABI:
		return p.one("libpie.RejectFloat(1.5)", "libpie.RejectFloat32(-0.25)")
	case n == 4 && !p.goABI:
		return fmt.Sprintf("libpie.RejectErrno(libpie.%s, %s)", p.one("EINVAL", "ERANGE"), x)
	case n == 5 && p.goABI:
		return fmt.Sprintf("libpie.RejectGo(libpie.Word(%s), libpie.GoVar(\"io.EOF\"), libpie.Word(%s))", x, p.v(p.kind()))
	case n == 6:
		return fmt.Sprintf("libpie.Log(uint32(%s))", x)
	case n == 7:
		return fmt.Sprintf("libpie.Reject(%s).WithCode(uint32(%s))", x, p.v(p.kind()))
	case n == 8:
		return fmt.Sprintf("libpie.Reject(%s)", p.cond(1))
	case n == 9 && p.caps["rewrite"]:
		return "libpie.Rewrite()"
	case n == 10 && p.caps["exit"]:
		return fmt.Sprintf("libpie.Exit(int32(%s))", x)
	}
	return fmt.Sprintf("libpie.Reject(%s)", x)
}

// useCaps uses what the guard has asked for once more: other uses may be where nothing leads
// to.
func (p *goProgram) useCaps() {
	for _, use := range [][2]string{
		{"write", "c.Put8(a+41, v1)"}, {"call", "v7 ^= c.Invoke(\"fn\").Word"}, {"rewrite", "c.SetArg(1, v6); return libpie.Rewrite()"}, {"exit", "return libpie.Exit(int32(v6))"},
	} {
		if p.caps[use[0]] {
			p.line("\tif v5&15 == %d { %s }", p.r.IntN(16), use[1])
		}
	}
}

// guard writes guard number n, in a file of its own.
func (p *goProgram) guard(n int) string {
	p.Reset()
	p.caps, p.acts = map[string]bool{"exit": p.r.IntN(12) == 0}, 4
	name, indent := "f", p.indent
	if p.goABI {
		name = "p.f"
	}
	p.line("\n//pie:guard exe=x func=%s onfault=reject:-77 onfuel=reject:-78", name)
	p.line("func G%d(c *libpie.Call, a libpie.Addr, v0 int8, v1 uint8, v2 int16, v4 int32, v5 uint32) libpie.Verdict {", n)
	p.line("\tv3, v6, v7 := uint16(v5>>7), int64(v4)<<20^int64(v2), uint64(v5)*0x9e3779b97f4a7c15")
	p.line("\tv8, v9, ok, lv := int(v2)<<v1, uint(v7>>9), v0 > 3, first")
	p.line("\tvar arr [8]int32")
	p.line("\tvar pr pair")
	p.line("\tm, rec, dp := c.Bytes(a, 40), libpie.At[record](a), &deep{more: v6}")
	if p.indent += "\t"; p.r.IntN(4) == 0 {
		p.rewrite("v6")
	}
	p.indent = indent
	p.block(3)
	p.block(3)
	p.block(2)
	p.line("\tv7 ^= uint64(dp.p.sum()) ^ uint64(dp.more)*3 ^ uint64(m.Len()) ^ uint64(lv)<<50 ^ uint64(v8)*7 ^ uint64(v9)*5 ^ uint64(dp.a[1])")
	p.line("\tif ok { v7 ^= rec.next }")
	p.line("\tif v5&31 == 1 { return %s }", p.verdict(7))
	p.useCaps()
	p.line("\treturn libpie.Reject(int64(v0) ^ int64(v1)*3 ^ int64(v2)*5 ^ int64(v3)*7 ^ int64(v4)*9 ^ int64(v5)*11 ^ v6*13 ^ int64(v7)*15 ^ int64(arr[v1&7]) ^ int64(pr.y))")
	p.line("}")
	file := "package random\n\nimport \"github.com/patch-integration-engine/pie/libpie\"\n"
	for _, name := range []string{"rewrite", "write", "call", "exit"} {
		if p.caps[name] {
			file += "\n//pie:cap " + name + "\n"
		}
	}
	return file + p.String()
}
