package pie

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Loads counts the load instructions of a guard by what they read.
type Loads struct {
	Call      int `json:"call"`      // arguments and what else is known of the call, mostly in registers
	Memory    int `json:"memory"`    // the program's memory: each may meet what cannot be read
	Constants int `json:"constants"` // tables and strings of the guard, and Go errors
	Stack     int `json:"stack"`     // the guard's own variables
}

func loadsOf(cost verify.Cost) Loads {
	return Loads{
		Call:      cost.Loads[verify.RegionFrame],
		Memory:    cost.Loads[verify.RegionTarget],
		Constants: cost.Loads[verify.RegionRodata] + cost.Loads[verify.RegionSymbol],
		Stack:     cost.Loads[verify.RegionStack] + cost.Loads[verify.RegionMixed],
	}
}

// helpersOf names the helpers that a guard calls, each once.
func helpersOf(prog *verify.Program) []string {
	var names []string
	for i, insn := range prog.Unit().Insns {
		if prog.Reachable(i) && insn.IsHelperCall() {
			names = append(names, bpf.Helper(insn.Imm).String())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Measure fills in what only machine code tells of each guard: Code and Saved.
func (p *Prepatch) Measure() {
	for i := range p.Guards {
		if code, ok := machineCode(p.programs[i], p.compiled.Guards[i].ABI); ok {
			p.Guards[i].Code, p.Guards[i].Saved = len(code.Bytes), code.Saved.Len()
		}
	}
}

// machineCode translates a guard for a place like one in a process, where it is
// given no register: in a real one it can only be cheaper. ok is false where the
// guard needs what only a process can tell.
func machineCode(prog *verify.Program, abi source.ABI) (code *jit.Code, ok bool) {
	const base = address.Addr(0x7f00_0000_0000)
	site := jit.Site{}
	if abi == source.GoInternal {
		site.ABI = jit.GoInternal
	}
	l := jit.Layout{
		Code: base, Control: base + 0x10_0000, Counters: base + 0x11_0000, Events: base + 0x12_0000, State: base + 0x40_0000,
		Errno: jit.ErrnoSlot{Known: true, Offset: -128}, StackEnd: base + 0x100_0000, Pointer: true, Gettid: true, Faults: jit.Table, XSave: 2696,
		After: func(at address.Addr) ([]byte, error) { return jit.Jump(at, base+0x30_0000, 5) },
	}
	for k := range prog.Unit().Symbols {
		l.Symbols = append(l.Symbols, base+0x20_0000+address.Addr(64*k))
	}
	code, err := jit.Compile(prog, site, l)
	return code, err == nil
}
