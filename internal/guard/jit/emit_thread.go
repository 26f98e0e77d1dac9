package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// mainStack is how far below the end of the main thread's stack nothing else
// lies: the kernel leaves at least so much between it and what mmap(2) gives
// (arch/x86/mm/mmap.c, SIZE_128M), whatever RLIMIT_STACK says.
const mainStack = 128 << 20

// gStackHi is the offset of g.stack.hi (runtime/runtime2.go).
const gStackHi = 8

// stackUsed writes bpf.HelperStackUsed. A goroutine's stack ends where its g
// says. The main thread's lies below the end of [stack]. Any other thread's ends
// at its thread pointer: glibc and musl put what it points to at the top of the
// stack, also of one that the program brought. What is on neither is on a stack of
// somebody else's making.
func (e *emitter) stackUsed(v *value) {
	d, sp := e.result(v), v.temp[0]
	e.Lea(sp, amd64.At(amd64.RSP, e.frameSize()+e.site.SPDelta))
	if e.regs.conv == &goInternal {
		e.Load(8, d, amd64.At(amd64.R14, gStackHi))
		e.below(d, sp, bpf.MaxStack)
		e.Jcc(amd64.CondA, e.land())
		return
	}
	known := e.Label()
	if e.l.StackEnd != 0 {
		e.MovImm(d, int64(e.l.StackEnd))
		e.below(d, sp, mainStack)
		e.Jcc(amd64.CondBE, known)
	}
	e.Load(8, d, amd64.FSAt(amd64.NoReg, 0))
	e.below(d, sp, bpf.MaxStack)
	e.Jcc(amd64.CondA, e.land())
	e.Bind(known)
}

// thread writes bpf.HelperThread.
func (e *emitter) thread(d amd64.Reg) {
	if e.regs.conv == &goInternal {
		e.Mov(8, d, amd64.R14)
		return
	}
	e.Load(8, d, amd64.FSAt(amd64.NoReg, 0))
}

// below turns the end of a stack in d into the distance of sp from it, and
// compares that with the most it can be.
func (e *emitter) below(d, sp amd64.Reg, most int32) {
	e.Op(amd64.Sub, 8, d, sp)
	e.OpImm(amd64.Cmp, 8, d, most)
}
