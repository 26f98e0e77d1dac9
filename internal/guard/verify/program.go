package verify

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Program is a verified guard. Only Verify makes one, so that a function that
// takes a Program cannot be given unverified bytecode. It is immutable and safe
// for concurrent use.
type Program struct {
	unit     *bpf.Unit
	facts    []fact // by instruction
	stack    int
	verdicts []bpf.Verdict
	cost     Cost
	limits   []Limit
}

// A fact is what verification found out about one instruction.
type fact struct {
	reachable bool
	faults    bool
	fuel      uint32
	same      bool
	falls     bool // control can go on to the next instruction
	jumps     bool // control can go to the target
	access    Access
	reads     [2]Region
	live      uint16
	stack     int    // of the function around it
	known     uint16 // registers with a known value
	values    [bpf.NumRegs]uint64
	calls     string // the function that HelperInvoke calls here
}

// Unit returns a copy of what was verified; its slices belong to the caller. Its
// Fuel is never 0: what the author asked for, or as much as keeps the slowest run
// within about 100 µs.
func (p *Program) Unit() *bpf.Unit { return cloneUnit(p.unit) }

// cloneUnit copies a unit with its slices, so that nobody can change verified
// bytecode afterwards.
func cloneUnit(u *bpf.Unit) *bpf.Unit {
	c := *u
	c.Insns = slices.Clone(u.Insns)
	c.Pos = slices.Clone(u.Pos)
	c.Symbols = slices.Clone(u.Symbols)
	c.Rodata = slices.Clone(u.Rodata)
	return &c
}

// Reachable reports whether instruction i can execute. A second slot of LDDW is
// not reachable, nor is a branch that verification found never taken.
func (p *Program) Reachable(i int) bool { return p.facts[i].reachable }

// FaultPoint reports whether instruction i is a load, store or helper call that
// can fault: it reads or writes target memory.
func (p *Program) FaultPoint(i int) bool { return p.facts[i].faults }

// Fuel returns how many units of fuel instruction i pays when it is taken: 0, or
// where it is a back-edge (bpf.Insn.IsBackEdge) as many as the rounds of its loops are
// long, at most 1<<31 - 1.
func (p *Program) Fuel(i int) uint32 { return p.facts[i].fuel }

// Same reports whether instruction i, a MOV that extends a register, always gives what
// the register holds.
func (p *Program) Same(i int) bool { return p.facts[i].same }

// Ways reports where control can go from a jump: on to the next instruction, and to
// the jump's target.
func (p *Program) Ways(i int) (falls, jumps bool) { return p.facts[i].falls, p.facts[i].jumps }

// Access says what memory instruction i, a load, store or atomic, touches.
func (p *Program) Access(i int) Access { return p.facts[i].access }

// HelperReads says what the helper called by instruction i reads: at the address
// in r1, and for those that take two memories at the one in r3. It is RegionTarget,
// RegionStack or RegionRodata, or RegionMixed where paths differ; RegionNone where
// nothing is read.
func (p *Program) HelperReads(i int) [2]Region { return p.facts[i].reads }

// Const returns the value of register reg before instruction i where it is a
// known number on every path.
func (p *Program) Const(i, reg int) (uint64, bool) {
	f := &p.facts[i]
	return f.values[reg], f.known&(1<<reg) != 0
}

// Live returns the registers, bit n for rn, whose value before instruction i
// may still be read.
func (p *Program) Live(i int) uint16 { return p.facts[i].live }

// Stack returns how many bytes below r10 the guard uses, a multiple of 8, with
// the frames of local calls.
func (p *Program) Stack() int { return p.stack }

// StackOf returns how many bytes below its own r10 the function around
// instruction i uses, a multiple of 8. A local call at i enters its callee
// with r10 lowered by that much.
func (p *Program) StackOf(i int) int { return p.facts[i].stack }

// Verdicts returns every verdict the guard can end with, ascending.
func (p *Program) Verdicts() []bpf.Verdict { return slices.Clone(p.verdicts) }

// Cost returns what a call of the guard costs at worst.
func (p *Program) Cost() Cost { return p.cost }

// Limits returns how far the guard certainly gets before its fuel ends, where that can
// be told.
func (p *Program) Limits() []Limit { return slices.Clone(p.limits) }

// Access is what a load, store or atomic touches.
type Access struct {
	Region Region
	// Offset is the byte offset from the region's base where Known: from the
	// frame (r1) for RegionFrame, always known; from r10 for RegionStack, and
	// from Rodata or the symbol for those.
	Offset int
	Known  bool
}

// Region is a kind of memory.
type Region uint8

// Regions. A load that reaches different ones on different paths is
// RegionMixed (never the frame), or RegionTarget when one of them is the target.
const (
	RegionNone   Region = iota // not an access, or not reachable
	RegionFrame                // the call's frame: words in registers, no memory
	RegionStack                // the guard's own stack, this function's or a caller's
	RegionRodata               // Unit.Rodata
	RegionSymbol               // a Go error of the target, through its symbol: cannot fault
	RegionTarget               // target memory: can fault
	RegionState                // the prepatch's state, shared by threads: cannot fault
	RegionMixed                // several of stack, rodata, symbol and state: cannot fault
)

// Regions is how many values Region has.
const Regions = int(RegionMixed) + 1

// Cost is the worst case of one call.
type Cost struct {
	Insns   int          // instructions, without the second slots of LDDW
	Ns      float64      // estimate of the slowest run in ns, fuel included
	Steps   float64      // instructions executed at most
	FuelCap bool         // fuel, not the guard's shape, ends the slowest run
	Loads   [Regions]int // load instructions by what they read
	Writes  int          // instructions and helper calls that write the target's memory
	Helpers int          // helper call instructions
}
