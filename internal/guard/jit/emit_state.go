package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// atomicShared writes an atomic operation on the state, which other threads use
// at the same time. The result, where there is one, shares no register with an
// operand.
func (e *emitter) atomicShared(v *value) {
	m, src := e.at(v), e.operand(v.args[1], 1)
	switch v.imm2 {
	case bpf.AtomicADD:
		e.LockOp(amd64.Add, 8, m, src)
	case bpf.AtomicADD | bpf.AtomicFetch:
		d := e.result(v)
		e.Mov(8, d, src)
		e.LockXadd(8, m, d)
	case bpf.AtomicXCHG:
		d := e.result(v)
		e.Mov(8, d, src)
		e.XchgMem(8, m, d)
	case bpf.AtomicCMPXCHG:
		e.compareExchange(v, m, src)
	}
}

// compareExchange writes lock cmpxchg, which has one operand in rax: what rax
// held is in a scratch register meanwhile, and used from there.
func (e *emitter) compareExchange(v *value, m amd64.Mem, src amd64.Reg) {
	d, kept := e.result(v), v.temp[0]
	expected := e.operand(v.args[2], 2)
	e.Mov(8, kept, amd64.RAX)
	if expected != amd64.RAX {
		e.Mov(8, amd64.RAX, expected)
	}
	if m.Base == amd64.RAX {
		m.Base = kept
	}
	if src == amd64.RAX {
		src = kept
	}
	e.LockCmpxchg(8, m, src)
	if d != amd64.RAX {
		e.Mov(8, d, amd64.RAX)
		e.Mov(8, amd64.RAX, kept)
	}
}
