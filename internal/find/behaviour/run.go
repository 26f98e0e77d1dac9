package behaviour

import (
	"math"
	"slices"

	"golang.org/x/arch/x86/x86asm"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Runner executes functions of one program. It is not safe for concurrent use.
type Runner struct {
	p       Program
	decoded map[uint64]*instruction
	steps   int
}

// NewRunner begins with a program.
func NewRunner(p Program) *Runner { return &Runner{p: p, decoded: map[uint64]*instruction{}} }

// Steps is how many instructions all runs so far took.
func (r *Runner) Steps() int { return r.steps }

// Manner is how calls are executed.
type Manner struct {
	Deep bool   // every function is entered
	Also uint64 // the function at this address is, whatever else is not
}

// Bounds of one run.
const (
	maxSteps   = 3000
	maxSeen    = 64
	maxDepth   = 12      // calls in calls
	maxDecoded = 1 << 16 // instructions that are kept decoded
)

// MaxSeen is the most that Observe returns: what one instruction, or the end, adds may be a
// little over the bound.
const MaxSeen = 1024

// instruction is one that was decoded.
type instruction struct {
	x     x86asm.Inst
	size  uint64
	nop   bool
	rep   byte // 0xf2, 0xf3 or 0
	known bool
}

// run is one execution.
type run struct {
	*Runner
	Manner
	kind  int
	seed  uint64
	given []Setting
	bias  uint64

	regs               [16]uint64
	xmm                [16]vec
	zf, sf, cf, of, pf bool
	rip                uint64
	steps, depth       int
	ended              bool

	memory  map[uint64]held // words written, by their addresses
	dirty   []uint64        // those written since the last call, outside the stack
	isDirty map[uint64]bool
	calls   map[uint64]uint64 // how often each was called
	imports map[uint64]string // addresses given out
	written uint8             // argument registers written since the last call

	isSeen map[uint64]bool
	seen   []uint64

	explores bool
	origins  [16]origin
	spilled  map[uint64]origin // by stack address
	tests    []test
}

// Observe returns what the function at v does in a world, as hashes, ascending.
func (r *Runner) Observe(v uint64, w World, how Manner) []uint32 {
	e := r.execute(v, w, how, false)
	out := make([]uint32, min(len(e.seen), MaxSeen))
	for i := range out {
		out[i] = uint32(e.seen[i])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *Runner) execute(v uint64, w World, how Manner, explores bool) *run {
	m := &run{Runner: r, Manner: how, kind: w.Number % kinds, seed: mix(uint64(w.Number) + 0x9e3779b97f4a7c15), given: w.Set, explores: explores,
		memory: map[uint64]held{}, isDirty: map[uint64]bool{}, calls: map[uint64]uint64{}, imports: map[uint64]string{}, isSeen: map[uint64]bool{}}
	if explores {
		m.spilled = map[uint64]origin{}
	}
	if !r.p.Fixed() {
		m.bias = imageBias
	}
	m.rip = v + m.bias
	m.enter()
	for !m.ended && m.steps < maxSteps && len(m.seen) <= maxSeen {
		m.steps++
		m.step()
	}
	m.flush()
	r.steps += m.steps
	return m
}

// Registers by the psABI's order of integer arguments (3.2.3).
var argumentRegisters = [6]amd64.Reg{amd64.RDI, amd64.RSI, amd64.RDX, amd64.RCX, amd64.R8, amd64.R9}

// enter gives the registers what a caller would.
func (m *run) enter() {
	for i, r := range argumentRegisters {
		h := mix(m.seed + uint64(i)*0x1234567)
		v := h & 0x7fff_ffff_ffff_fff8 // a pointer, or a large number
		switch {
		case m.kind == anyNumber:
		case h>>62 == 0:
			v = h >> 8 & 0xf
		case h>>60&1 != 0:
			v = v&^math.MaxUint32 | h>>8&0xf8
		}
		if set, ok := m.setting(Argument, uint64(i)); ok {
			v = set
		}
		m.regs[r] = v
		m.origins[r] = origin{Place: Place{Argument, uint64(i), 8}}
	}
	for i := range 8 {
		m.xmm[i][0] = math.Float64bits(float64(i) + 1.5 + float64(m.seed&7))
	}
	m.regs[amd64.RSP] = entrySP
	m.push(returnAt)
}

// see takes something down, once.
func (m *run) see(tag byte, a, b uint64) {
	h := mix(mix(uint64(tag)<<56^a)*3 + b)
	if !m.isSeen[h] {
		m.isSeen[h] = true
		m.seen = append(m.seen, h)
	}
}

// stop ends the run: what comes is not known, or nothing comes.
func (m *run) stop() { m.ended = true }

// fetch decodes the instruction that is next.
func (m *run) fetch() *instruction {
	at := m.rip - m.bias
	if in := m.decoded[at]; in != nil {
		return in
	}
	if len(m.decoded) >= maxDecoded {
		clear(m.decoded)
	}
	in := decode(m.p.Code(at, amd64.MaxInstLen), at)
	m.decoded[at] = in
	return in
}

func decode(code []byte, at uint64) *instruction {
	in := &instruction{}
	var d amd64.Inst
	if len(code) == 0 || d.Decode(code, address.Addr(at)) != nil {
		return in
	}
	in.size = uint64(d.Len)
	if d.IsNop() || d.IsEndbr() {
		in.known, in.nop = true, true
		return in
	}
	in.x, in.known = d.Asm()
	for _, p := range in.x.Prefix {
		switch p &^ (x86asm.PrefixImplicit | x86asm.PrefixIgnored) {
		case x86asm.PrefixREP:
			in.rep = 0xf3
		case x86asm.PrefixREPN:
			in.rep = 0xf2
		}
	}
	return in
}
