package jit

import (
	"encoding/binary"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// clamp lets a call whose argument 1 is above 256 go on with arguments 0 and 1
// swapped.
const clamp = `
	ldxdw %r2, [%r1+8]
	jgt %r2, 256, bad
	mov %r0, 0
	exit
bad:
	ldxdw %r3, [%r1+0]
	stxdw [%r1+128], %r2
	stxdw [%r1+136], %r3
	mov %r0, 0xc0003
	exit
landing:
	mov %r0, 0
	exit
`

// A rewrite changes the argument registers that it names and nothing else; in
// audit mode it changes nothing at all.
func TestRewrite(t *testing.T) {
	for _, abi := range []ABI{SysV, GoInternal} {
		args := conventionOf(abi).args
		for _, free := range []amd64.RegSet{0, amd64.Set(amd64.R11), amd64.Set(amd64.RAX, amd64.R11, amd64.R12)} {
			for _, mode := range []Mode{ModeEnforce, ModeAudit, ModeOff} {
				m, u := newMachine(t), unit(t, clamp, 9, 9)
				l := m.layout()
				m.place(compileUnit(t, guess{u}, Site{ABI: abi, Free: free}, l), l, mode)
				for _, length := range []uint64{16, 4096} {
					in := filled(8)
					if abi == GoInternal {
						in.GPR[amd64.R14] = uint64(gAt)
					}
					in.GPR[args[1]] = length
					want := *in
					if length > 256 && mode == ModeEnforce {
						want.GPR[args[0]], want.GPR[args[1]] = in.GPR[args[1]], in.GPR[args[0]]
					}
					m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
					outcome, out := m.call(l.Code, in)
					if outcome != hasPassed {
						t.Fatalf("abi %v, free %v, mode %d: the call did not go on", abi, free, mode)
					}
					for r := range want.GPR {
						if out.GPR[r] != want.GPR[r] && !free.Has(amd64.Reg(r)) {
							t.Errorf("abi %v, free %v, mode %d, length %d: %v is %#x, want %#x", abi, free, mode, length, amd64.Reg(r), out.GPR[r], want.GPR[r])
						}
					}
					if out.YMM != want.YMM && m.avx {
						t.Errorf("abi %v, mode %d: a vector register changed", abi, mode)
					}
				}
				if n := m.counter(l, CounterRejects); n != map[Mode]uint64{ModeEnforce: 1}[mode] {
					t.Errorf("mode %d: %d rewrites counted", mode, n)
				}
				if n := m.counter(l, CounterAudited); n != map[Mode]uint64{ModeAudit: 1}[mode] {
					t.Errorf("mode %d: %d audited", mode, n)
				}
			}
		}
	}
}

// Words 6 to 8 of a SysV function are on the stack, above the return address.
func TestRewriteOnTheStack(t *testing.T) {
	const text = `
	ldxdw %r2, [%r1+0]
	stxdw [%r1+176], %r2
	lddw %r3, 0x1122334455667788
	stxdw [%r1+184], %r3
	stdw [%r1+192], -2
	ldxdw %r4, [%r1+8]
	stxdw [%r1+128], %r4
	mov %r0, 0x7040003
	exit
	mov %r0, 0
	exit`
	for _, delta := range []int32{0, 8} {
		for _, free := range []amd64.RegSet{0, amd64.Set(amd64.RAX, amd64.R10, amd64.R11)} {
			for _, try := range [][]pressure{pressures[:], {{spill: true, pool: 2}, {spill: true}}} {
				m, u := newMachine(t), unit(t, text, 10, 10)
				u.Caps = bpf.CapRewrite
				l := m.layout()
				c, err := compile(proven(t, u), Site{SPDelta: delta, Free: free}, l, try)
				if err != nil {
					t.Fatal(err)
				}
				m.place(c, l, ModeEnforce)
				in := filled(8)
				args := address.Addr(in.GPR[amd64.RSP]) + address.Addr(delta) + 8
				for i := range 4 {
					m.poke64(args+address.Addr(8*i), uint64(100+i))
				}
				outcome, out := m.call(l.Code, in)
				if outcome != hasPassed || out.GPR[amd64.RDI] != in.GPR[amd64.RSI] {
					t.Errorf("outcome %d, rdi %#x", outcome, out.GPR[amd64.RDI])
				}
				for i, want := range []uint64{in.GPR[amd64.RDI], 0x1122334455667788, 0xfffffffffffffffe, 103} {
					if got := binary.LittleEndian.Uint64(m.peek(args+address.Addr(8*i), 8)); got != want {
						t.Errorf("free %v: stack word %d is %#x, want %#x", free, i, got, want)
					}
				}
			}
		}
	}
}
