package plan

import (
	"bytes"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// A function that the Go compiler made begins, unless it is nosplit, with
//
//	[lea -n(%rsp),%r12]          large frames
//	cmp  0x10(%r14),%rsp|%r12    g.stackguard0
//	jbe  morestack               which jumps back to the entry
//	push %rbp …
//
// Guards run behind the jbe: once a call, with the arguments still in their
// registers. Replacing what follows would overwrite instruction boundaries at
// which the runtime preempts goroutines (runtime/preempt.go, isAsyncSafePoint):
// one that waits there, on no thread, would go on in the middle of the jump. So
// the jbe itself is replaced, which the compiler marks as an unsafe point
// (cmd/internal/obj/x86, stacksplit), alone where it is a long one, with the
// cmp otherwise, and runs ahead of the guards.

// Registers of ABIInternal (Go source, src/cmd/compile/abi-internal.md): R12 and
// R13 are scratch at every entry, call and return. R15 is too, but for dynamically
// linked code.
var (
	goScratch   = amd64.Set(amd64.R12, amd64.R13)
	goKept      = amd64.Set(amd64.RSP, amd64.RBP, amd64.R14)
	goArguments = amd64.Set(amd64.RAX, amd64.RBX, amd64.RCX, amd64.RDI, amd64.RSI, amd64.R8, amd64.R9, amd64.R10, amd64.R11)
)

// cmpStackGuard are the compares with g.stackguard0, and, in code that runs on
// the system stack, g.stackguard1.
var cmpStackGuard = [][]byte{
	{0x49, 0x3b, 0x66, 0x10}, // cmp 0x10(%r14),%rsp
	{0x4d, 0x3b, 0x66, 0x10}, // cmp 0x10(%r14),%r12
	{0x49, 0x3b, 0x66, 0x18}, // cmp 0x18(%r14),%rsp
	{0x4d, 0x3b, 0x66, 0x18}, // cmp 0x18(%r14),%r12
}

func (c *chooser) goSite() (Site, error) {
	check, ok := c.stackCheck()
	if !ok {
		return c.goLeaf()
	}
	n := len(check)
	s, err := c.goSiteAt(check[:n-1], check[n-1:])
	if err == nil {
		return s, nil
	}
	return c.goSiteAt(check[:n-2], check[n-2:])
}

// stackCheck returns the instructions from the entry to the jbe of the stack check.
func (c *chooser) stackCheck() ([]amd64.Inst, bool) {
	var run []amd64.Inst
	at := c.f.Entry
	for range maxKept {
		if at >= c.f.end() {
			return nil, false
		}
		i, err := amd64.Decode(c.f.Text[at-c.f.Entry:], at)
		if err != nil {
			return nil, false
		}
		run = append(run, i)
		n := len(run)
		if i.Flow == amd64.FlowCond && n >= 2 && isStackCompare(run[n-2]) {
			return run, true
		}
		if e := i.Effects(); !e.Known || e.Stores != 0 || e.SPDelta != 0 || e.Writes&^goScratch != 0 || i.Flow == amd64.FlowJump {
			return nil, false
		}
		at = i.Next()
	}
	return nil, false
}

func isStackCompare(i amd64.Inst) bool {
	for _, b := range cmpStackGuard {
		if bytes.Equal(i.Bytes(), b) {
			return true
		}
	}
	return false
}

// goSiteAt is the site that replaces the run before, behind kept.
func (c *chooser) goSiteAt(kept, before []amd64.Inst) (Site, error) {
	s := Site{
		Function: c.f.Name, Entry: c.f.Entry, Start: before[0].Addr,
		Kept: append([]amd64.Inst(nil), kept...), Before: append([]amd64.Inst(nil), before...),
		ABI: jit.GoInternal,
	}
	last := before[len(before)-1]
	if last.Next() < s.Start.Add(jumpLen) {
		return Site{}, refuse(SiteTooShort, c.f, s.Start, "the stack check is shorter than a jump")
	}
	if err := c.finish(&s); err != nil {
		return Site{}, err
	}
	s.Free = c.goFree(s.Resume)
	if len(kept) == 0 {
		s.Warnings = append(s.Warnings, entryWarning(c.f.Name))
	}
	return s, nil
}

// goFree returns the registers a guard may clobber when control comes to at.
func (c *chooser) goFree(at address.Addr) amd64.RegSet {
	return amd64.FreeAtEntry(c.f.code(), c.f.Entry, at, goScratch) &^ goKept &^ goArguments
}
