package plan

import (
	"fmt"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Describe tells what the plan writes, for `pie plan`.
func (p *Plan) Describe() string {
	var b strings.Builder
	for n, g := range p.guards {
		if n > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(g.Describe())
	}
	return b.String()
}

// Describe tells what one guard writes where: the site before and after, the
// guard's block, what it runs for the site, and what deserves a warning.
func (g Guard) Describe() string {
	var b strings.Builder
	s := g.Where
	fmt.Fprintf(&b, "%s in %s at %v: guard %s\n", g.Function, g.Image.Name, s.Entry, g.Name)
	for _, i := range s.Kept {
		line(&b, "stays", i.Addr, i.Bytes(), i.String())
	}
	for _, i := range s.moved() {
		line(&b, "moves", i.Addr, i.Bytes(), i.String())
	}
	jump := disassemble(g.Patch, g.Site)
	if g.Entrance != 0 { // with prefixes, at which disassemblers stop
		jump = fmt.Sprintf("jmpq %v", g.Entrance)
	}
	line(&b, "site", g.Site, g.Patch, jump)
	if g.Entrance != 0 {
		if on, err := jit.Jump(g.Entrance, g.Place.Code, jit.LinkSize); err == nil {
			line(&b, "entrance", g.Entrance, on, disassemble(on, g.Entrance))
		}
	}
	listing(&b, "ahead", g.Code.Bytes[:g.Code.Body], g.Place.Code, 0)
	fmt.Fprintf(&b, "  %-10s %v  %d bytes, %d of stack, saves %s, free %s\n",
		"guard", g.Place.Code, len(g.Code.Bytes), g.Code.Stack, g.Code.Saved, s.Free)
	after := g.Code.Link + jit.LinkSize
	listing(&b, "on pass", g.Code.Bytes[after:g.Code.End], g.Place.Code.Add(int64(after)), g.constants())
	if len(s.Undo) > 0 {
		listing(&b, "on reject", s.Undo, 0, 0)
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(&b, "  warning: %s\n", w)
	}
	return b.String()
}

// constants is how many bytes at the end of what runs on pass are a constant: the
// return address of a moved call.
func (g Guard) constants() int {
	s := g.Where
	if len(s.After) == 0 {
		return 0
	}
	switch s.After[len(s.After)-1].Flow {
	case amd64.FlowCall, amd64.FlowIndirectCall:
		return 8
	}
	return 0
}

// line writes one instruction. An address of 0 is not told.
func line(b *strings.Builder, label string, at address.Addr, code []byte, text string) {
	where := "              "
	if at != 0 {
		where = fmt.Sprintf("%-14v", at)
	}
	fmt.Fprintf(b, "  %-10s %s  %-30s %s\n", label, where, fmt.Sprintf("% x", code), text)
}

// listing writes code instruction by instruction; its last data bytes are a constant.
func listing(b *strings.Builder, label string, code []byte, at address.Addr, data int) {
	end := len(code) - data
	for off := 0; off < end; {
		i, err := amd64.Decode(code[off:end], at.Add(int64(off)))
		if err != nil {
			break
		}
		where := i.Addr
		if at == 0 {
			where = 0
		}
		line(b, label, where, i.Bytes(), i.String())
		off, label = off+i.Len, ""
	}
	if data > 0 {
		line(b, label, at.Add(int64(end)), code[end:], "the original return address")
	}
}

// disassemble is the text of the instruction at the start of code.
func disassemble(code []byte, at address.Addr) string {
	i, err := amd64.Decode(code, at)
	if err != nil {
		return fmt.Sprintf("(% x)", code)
	}
	return i.String()
}
