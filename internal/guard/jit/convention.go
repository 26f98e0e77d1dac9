package jit

import "github.com/patch-integration-engine/pie/internal/isa/amd64"

// convention is what a calling convention says about registers.
type convention struct {
	args    []amd64.Reg  // argument words in order
	results []amd64.Reg  // result words in order
	xmm0    bool         // a floating-point result is returned in xmm0
	never   amd64.RegSet // registers no guard may change, even for a moment
	room    int32        // bytes of stack a guard may use, checked as it runs; 0: unchecked
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
// registers but the frame pointer. A goroutine's stack may be nearly full: after a
// stack check 928 bytes are left below rsp (runtime/stack.go, stackGuard), in a
// function without one nothing is known. So before a guard uses its stack it looks
// at g.stack.lo, the first word of g, which signal handlers do not move.
var goInternal = convention{
	args: []amd64.Reg{
		amd64.RAX, amd64.RBX, amd64.RCX, amd64.RDI, amd64.RSI, amd64.R8, amd64.R9, amd64.R10, amd64.R11,
	},
	results: []amd64.Reg{
		amd64.RAX, amd64.RBX, amd64.RCX, amd64.RDI, amd64.RSI, amd64.R8, amd64.R9, amd64.R10, amd64.R11,
	},
	never: amd64.Set(amd64.RSP, amd64.R14),
	room:  768,
}

func conventionOf(a ABI) *convention {
	if a == GoInternal {
		return &goInternal
	}
	return &sysV
}
