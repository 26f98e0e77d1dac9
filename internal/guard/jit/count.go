package jit

import (
	"encoding/binary"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// A guard counts each call in one word of CallSlots. Which one decides what it costs.
//
// Where the C library has registered a struct rseq for every thread (Layout.Rseq), a CPU
// has a word of its own, and the thread adds to it without a lock, in a restartable
// sequence (rseq(2)): the kernel sends a thread that it preempts, moves or sends a signal
// in there to the sequence's abort handler, which counts with a lock, elsewhere. So no
// call is lost and none counts twice, and a thread that is single-stepped, whose every
// sequence is aborted, goes on, too.
//
//	fs:rseq_cs = descriptor
//	start:  word = the word of fs:cpu_id, unless there is none
//	        add 1                    commits
//	done:   fs:rseq_cs = 0
//
// The kernel reads the descriptor whenever it looks at a thread whose rseq_cs is set: it is
// cleared, so that it is set only while the thread is in code that stays mapped for it.
//
// Elsewhere, or where the CPU has no word, the thread adds with a lock to one of the words
// that no CPU has, one a cache line, which a hash of rsp picks: so threads rarely meet. A
// word has one kind of writers.

// RseqArea says where threads have the struct rseq that their C library has registered
// (rseq(2)), with RseqSignature: at fs:Offset. The zero value says that they have none.
type RseqArea struct {
	Known  bool
	Offset int32
}

// Offsets in struct rseq (linux/rseq.h), and what stands ahead of an abort handler: what
// C libraries register on x86 (glibc, bits/rseq.h).
const (
	rseqCPU       = 4 // u32 cpu_id; not below 2³²−2 while nothing is registered
	rseqCS        = 8 // u64 rseq_cs
	RseqSignature = 0x53053053
)

// The words: CPU c < cpuSlots has word 8c mod 128 + c/16, so that the first sixteen CPUs
// have a line each. The last of each line's eight is for the lock.
const (
	cpuSlots  = CallSlots / 8 * 7
	cpuFactor = 1<<28 + 1<<21 // × c, the top seven bits: (8 + 1/16) c mod 128
	slotBits  = 7
	lockSlot  = 7
)

// hashFactor was searched for: the top four bits of the low half of rsp × hashFactor put
// eight stacks at any of the usual distances, from goroutines' to those of threads, into
// at least five cache lines, mostly eight (TestSpread).
const hashFactor = 0xf4fb1d89 - 1<<32

// sequence is the restartable sequence of a guard, for its descriptor.
type sequence struct {
	descriptor           amd64.Label
	start, commit, abort address.Addr // once written
	used                 bool
}

// countsWith is Code.Rseq.
func (e *emitter) countsWith() RseqArea {
	if e.l.Quiet {
		return RseqArea{}
	}
	return e.l.Rseq
}

// count adds the call to the counters. Every instruction here costs every call.
func (e *emitter) count() {
	if e.l.Quiet {
		e.LockInc(e.counter(CounterCalls))
		return
	}
	e.counts = true
	if at := e.countRegs(); len(at) > 0 {
		e.countIn(at[0])
		return
	}
	if !e.framed {
		e.haveRoom()
	}
	e.push(amd64.RAX)
	e.countIn(amd64.RAX)
	e.pop(amd64.RAX)
}

// countRegs are registers that hold nothing where calls are counted: not the fuel, which
// the prologue has set.
func (e *emitter) countRegs() []amd64.Reg {
	at := e.regs.free.Regs()
	if e.framed {
		at = append(at, e.regs.saved...)
	}
	return slices.DeleteFunc(at, func(r amd64.Reg) bool { return e.framed && e.regs.burns && r == e.regs.fuel.reg })
}

// countIn counts with one register.
func (e *emitter) countIn(r amd64.Reg) {
	if e.l.Rseq.Known {
		e.countOnCPU(r)
	} else {
		e.countLocked(r)
	}
}

// countLocked adds with a lock to a word that no CPU has.
func (e *emitter) countLocked(r amd64.Reg) {
	e.IMulImm(4, r, amd64.RSP, hashFactor)
	e.ShiftImm(amd64.Shr, 4, r, 32-4)
	e.ShiftImm(amd64.Shl, 4, r, 6)
	e.OpLoad(amd64.Add, 8, r, amd64.LabelMem(e.calls))
	e.LockInc(amd64.At(r, 8*lockSlot))
}

// countOnCPU adds to the word of the CPU, or without one as countLocked does.
func (e *emitter) countOnCPU(r amd64.Reg) {
	s, area := &e.sequence, e.l.Rseq.Offset
	abort, done := e.Label(), e.Label()
	s.descriptor, s.used = e.Label(), true
	e.Lea(r, amd64.LabelMem(s.descriptor))
	e.Store(8, amd64.FSAt(amd64.NoReg, area+rseqCS), r)
	s.start = e.Here()
	e.Load(4, r, amd64.FSAt(amd64.NoReg, area+rseqCPU))
	e.OpImm(amd64.Cmp, 4, r, cpuSlots)
	e.Jcc(amd64.CondAE, abort)
	e.IMulImm(4, r, r, cpuFactor)
	e.ShiftImm(amd64.Shr, 4, r, 32-slotBits)
	e.ShiftImm(amd64.Shl, 4, r, 3) // shorter than a mask
	e.OpLoad(amd64.Add, 8, r, amd64.LabelMem(e.calls))
	e.Inc(amd64.At(r, 0))
	s.commit = e.Here()
	e.Bind(done)
	e.Op(amd64.Xor, 4, r, r)
	e.Store(8, amd64.FSAt(amd64.NoReg, area+rseqCS), r)
	e.later = append(e.later, func() {
		e.Raw(binary.LittleEndian.AppendUint32([]byte{0x0f, 0xb9, 0x3d}, RseqSignature)...) // ud1: makes an instruction of it
		e.Bind(abort)
		s.abort = e.Here()
		e.countLocked(r)
		e.Jmp(done)
	})
}

// countData writes what counting reads. A struct rseq_cs (linux/rseq.h) has version and
// flags, both 0, the start, the length, and the abort handler.
func (e *emitter) countData() {
	if s := e.sequence; s.used {
		e.Align(32)
		e.Bind(s.descriptor)
		e.Quad(0)
		e.Quad(uint64(s.start))
		e.Quad(uint64(s.commit - s.start))
		e.Quad(uint64(s.abort))
	}
	if e.counts {
		e.Align(8)
		e.Bind(e.calls)
		e.Quad(uint64(e.l.Counters.Add(CounterCalls)))
	}
}
