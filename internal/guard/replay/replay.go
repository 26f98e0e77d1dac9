// Package replay runs guards over recorded calls: what would this guard have done?
//
// A call is run by the checked interpreter, with the recorded words as its frame and
// the recorded memory as the target's. Whatever a guard asks for that was not
// recorded (memory, a helper's answer, the address of a symbol) makes the outcome
// Unknown: it is never taken for a pass. State is kept from call to call as in the
// process, but begins empty and sees recorded calls only.
package replay

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/recording"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Outcome is what a guard makes of a call.
type Outcome struct {
	bpf.Result
	Unknown string // why it cannot be told; empty when it can
}

// Guard runs one guard over the calls of one process.
type Guard struct {
	in      bpf.Interp
	symbols []known
	helpers bool // it asks for more than memory
}

// known is the address of a symbol, if it was recorded.
type known struct {
	name string
	addr uint64
	ok   bool
}

// New returns the guard for calls recorded at a place. state is the prepatch's in
// that process, which its guards share.
func New(p *verify.Program, at recording.Place, state []byte) (*Guard, error) {
	u := p.Unit()
	if int(u.State) > len(state) {
		return nil, fmt.Errorf("replaying %s: %d bytes of state, it has %d", u.Name, len(state), u.State)
	}
	g := &Guard{in: bpf.Interp{Unit: u, State: state, Charge: p.Fuel, MaxSteps: maxSteps}}
	for _, s := range u.Symbols {
		addr, ok := at.Symbols[SymbolKey(s)]
		g.symbols = append(g.symbols, known{s.Name, addr, ok})
		g.in.Symbols = append(g.in.Symbols, addr)
	}
	for _, i := range u.Insns {
		if i.IsHelperCall() {
			switch bpf.Helper(i.Imm) {
			case bpf.HelperTid, bpf.HelperThread, bpf.HelperStackUsed, bpf.HelperInvoke:
				g.helpers = true
			}
		}
	}
	return g, nil
}

// maxSteps is more than fuel allows a verified guard.
const maxSteps = 1 << 28

// SymbolKey names a symbol in a recording.
func SymbolKey(s bpf.Symbol) string { return fmt.Sprintf("%d %s", s.Kind, s.Name) }

// Run runs the guard on one call. An error is a fault of PIE's own: a step that no
// verified guard takes.
func (g *Guard) Run(c *recording.Call) (Outcome, error) {
	m := &memory{Memory: recording.Gather(c.Reads), fault: c.Reading}
	g.in.Memory, g.in.Now = m, c.Now
	g.in.Tid, g.in.Thread, g.in.StackEnd = 0, 0, 0
	given := g.answers(c)
	g.in.Call = func(s bpf.Symbol, _ [bpf.InvokeArgs]uint64) (r bpf.Returned, ok bool) {
		m.miss("it calls " + s.Name + ", and what that returns was not recorded")
		return r, false
	}
	g.in.Trace = nil
	if g.helpers || len(g.symbols) > 0 {
		g.in.Trace = func(pc int, _ *[bpf.NumRegs]bpf.Value, _ int) { g.check(pc, given, m) }
	}
	res, err := g.in.Run(bpf.Frame{Args: c.Args, SP: c.SP, Return: c.Return})
	if err != nil {
		var v *bpf.Violation
		if m.unknown != "" && errors.As(err, &v) {
			return Outcome{Unknown: m.unknown}, nil
		}
		return Outcome{}, fmt.Errorf("replaying call %d: %w", c.Number, err)
	}
	return Outcome{Result: res, Unknown: m.unknown}, nil
}

// answers sets what the recorded helpers returned, and returns which they are.
func (g *Guard) answers(c *recording.Call) map[bpf.Helper]bool {
	if len(c.Answers) == 0 {
		return nil
	}
	given := map[bpf.Helper]bool{}
	for _, a := range c.Answers {
		given[a.Helper] = true
		switch a.Helper {
		case bpf.HelperTid:
			g.in.Tid = uint32(a.Value)
		case bpf.HelperThread:
			g.in.Thread = a.Value
		case bpf.HelperStackUsed:
			g.in.StackEnd = c.SP + a.Value
		}
	}
	return given
}

// check notes when the instruction at pc asks for what was not recorded.
func (g *Guard) check(pc int, given map[bpf.Helper]bool, m *memory) {
	i := g.in.Unit.Insns[pc]
	switch {
	case i.IsHelperCall():
		switch h := bpf.Helper(i.Imm); h {
		case bpf.HelperTid, bpf.HelperThread:
			if !given[h] {
				m.miss(fmt.Sprintf("it asks for %v, which was not recorded", h))
			}
		case bpf.HelperInvoke:
			m.miss("it calls a function of the program, whose answer was not recorded")
		case bpf.HelperStackUsed:
			// A fault of the recorded guard without an address may be just this.
			if !given[h] {
				m.miss("it asks for the stack used, which was not recorded")
			}
		}
	case i.IsLDDW() && i.Src == bpf.PseudoSymbol && i.Imm >= 0 && int(i.Imm) < len(g.symbols):
		if s := g.symbols[i.Imm]; !s.ok {
			m.miss("it uses the address of " + s.name + ", which was not recorded")
		}
	}
}

// memory is recorded memory. What was not recorded cannot be told from what could
// not be read, but where the recorded guard met a fault.
type memory struct {
	*recording.Memory
	fault   uint64 // the address whose read faulted; 0: none is known
	unknown string
}

// Read implements bpf.Memory.
func (m *memory) Read(addr uint64, p []byte) bool {
	if m.Memory.Read(addr, p) {
		return true
	}
	if m.fault == 0 || addr != m.fault {
		m.miss(notRecorded("reads", len(p), addr))
	}
	return false
}

// Write implements bpf.WritableMemory, for a guard that may write: it sees again
// what it wrote. Memory that was not recorded cannot be told from what is read only.
func (m *memory) Write(addr uint64, p []byte) bool {
	if m.Memory.Write(addr, p) {
		return true
	}
	m.miss(notRecorded("writes", len(p), addr))
	return false
}

func (m *memory) miss(why string) {
	if m.unknown == "" {
		m.unknown = why
	}
}

// notRecorded says which memory a guard asked for in vain.
func notRecorded(does string, n int, addr uint64) string {
	if n == 1 {
		return fmt.Sprintf("it %s 1 byte at %#x, which was not recorded", does, addr)
	}
	return fmt.Sprintf("it %s %d bytes at %#x, which were not recorded", does, n, addr)
}
