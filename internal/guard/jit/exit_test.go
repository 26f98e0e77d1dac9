package jit

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// A verdict of Exit ends the process with its code, and with an event; in audit mode the
// call passes.
func TestExit(t *testing.T) {
	for _, abi := range []ABI{SysV, GoInternal} {
		for _, mode := range []Mode{ModeAudit, ModeEnforce} {
			m := newMachine(t)
			u := unit(t, "ldxdw %r2, [%r1+0]\nstxdw [%r1+128], %r2\nmov %r0, 4\nexit", 2, 2)
			u.Caps = bpf.CapExit
			l := m.layout()
			m.place(compileUnit(t, guess{u}, Site{ABI: abi}, l), l, mode)
			in := filled(8)
			in.GPR[amd64.R14] = uint64(gAt)
			in.GPR[conventionOf(abi).args[0]] = 0x1_0000_0029
			m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
			if mode == ModeAudit {
				if outcome, out := m.call(l.Code, in); outcome != hasPassed || *out != *in || m.counter(l, CounterAudited) != 1 {
					t.Errorf("audit: outcome %d, %d audited", outcome, m.counter(l, CounterAudited))
				}
				continue
			}
			_, err := m.try(cmdCall, 0, l.Code, in)
			if m.cmd.ProcessState == nil || m.cmd.ProcessState.ExitCode() != 0x29 {
				t.Errorf("the process: %v", err)
			}
		}
	}
}
