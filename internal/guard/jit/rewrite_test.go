package jit

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
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
