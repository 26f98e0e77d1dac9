package jit

import "github.com/patch-integration-engine/pie/internal/isa/amd64"

// convention is what a calling convention says about registers.
type convention struct {
	args    []amd64.Reg  // argument words in order
	results []amd64.Reg  // result words in order
	xmm0    bool         // a floating-point result is returned in xmm0
	never   amd64.RegSet // registers no guard may change, even for a moment
}

// sysV is psABI 3.2.3.
var sysV = convention{
	args:    []amd64.Reg{amd64.RDI, amd64.RSI, amd64.RDX, amd64.RCX, amd64.R8, amd64.R9},
	results: []amd64.Reg{amd64.RAX, amd64.RDX},
	xmm0:    true,
	never:   amd64.Set(amd64.RSP),
}

// goInternal is Go's ABIInternal (cmd/compile/abi-internal.md): r14 holds g and
// x15 zero, which a signal handler may rely on; there are no callee-saved
// registers but the frame pointer.
var goInternal = convention{
	args: []amd64.Reg{
		amd64.RAX, amd64.RBX, amd64.RCX, amd64.RDI, amd64.RSI, amd64.R8, amd64.R9, amd64.R10, amd64.R11,
	},
	results: []amd64.Reg{
		amd64.RAX, amd64.RBX, amd64.RCX, amd64.RDI, amd64.RSI, amd64.R8, amd64.R9, amd64.R10, amd64.R11,
	},
	never: amd64.Set(amd64.RSP, amd64.R14),
}

func conventionOf(a ABI) *convention {
	if a == GoInternal {
		return &goInternal
	}
	return &sysV
}
