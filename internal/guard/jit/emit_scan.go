package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// scanner holds the registers of a search through memory for one byte, 16
// aligned bytes at a time. An aligned chunk lies in one page, so that reading it
// whole faults exactly when the byte wanted would.
type scanner struct {
	c    amd64.Reg // the chunk
	end  amd64.Reg // address past the last byte that may be looked at
	mask amd64.Reg // bit n: byte n of the chunk is the one sought
	t    amd64.Reg
}

// Vector registers of a search.
const (
	vecSought = amd64.XMM(0) // the byte sought, 16 times
	vecChunk  = amd64.XMM(1)
	vecSum    = amd64.XMM(2) // counts by column
)

// scan writes Count, Index and StrLen. Fuel limits how far it looks; what was
// looked at is paid at the end.
func (e *emitter) scan(h bpf.Helper, v *value) {
	s := scanner{c: v.temp[0], end: v.temp[1], mask: v.temp[2], t: v.temp[3]}
	p, n, d := v.args[0], v.args[1], e.result(v)
	none, done := e.Label(), e.Label()
	e.length(s.end, n)
	e.affordable(s.end, s.t)
	e.Op(amd64.Xor, 4, d, d)
	e.Test(8, s.end, s.end)
	e.Jcc(amd64.CondE, none)
	if h == bpf.HelperStrLen {
		e.Vec(amd64.PXor, vecSought, vecSought)
	} else {
		e.broadcast(vecSought, v.args[2], s.t)
	}
	e.move(s.c, p)
	e.userHalf(s.c, s.t)
	e.Op(amd64.Add, 8, s.end, s.c)
	e.OpImm(amd64.And, 8, s.c, -16)
	e.firstChunk(s, p, d)
	if h == bpf.HelperCount {
		e.countChunks(s, d, v.temp[4])
		e.Bind(none)
		e.move(s.t, n)
		e.payFor(s.t, s.mask)
		return
	}
	e.nextMatch(s, none)
	e.apply(amd64.Sub, s.c, p, s.t)
	e.Mov(8, d, s.c)
	e.payUpTo(s.c)
	e.Jmp(done)
	e.Bind(none)
	e.move(s.t, n)
	e.payFor(s.t, s.mask)
	if h == bpf.HelperStrLen {
		e.move(d, n)
	} else {
		e.MovImm(d, -1)
	}
	e.Bind(done)
}

// broadcast sets all bytes of x to the low byte of v.
func (e *emitter) broadcast(x amd64.XMM, v *value, t amd64.Reg) {
	if v.isConst() {
		e.MovImm(t, int64(uint32(uint8(v.imm))*0x01010101))
		e.MovToVec(4, x, t)
	} else {
		e.move(t, v)
		e.MovToVec(4, x, t)
		e.Vec(amd64.PUnpckLBW, x, x)
		e.Vec(amd64.PUnpckLWD, x, x)
	}
	e.PShufD(x, x, 0)
}

// firstChunk looks at the chunk around the first byte, and forgets what lies
// before that byte. spare is clobbered.
func (e *emitter) firstChunk(s scanner, p *value, spare amd64.Reg) {
	e.enterPage(s.c, windowScan)
	e.match(s)
	e.move(s.t, p)
	e.OpImm(amd64.And, 4, s.t, 15)
	e.keepFrom(s.mask, s.t, spare)
}

// keepFrom clears the bits of mask below bit: it is anded with −2^bit. spare is
// clobbered.
func (e *emitter) keepFrom(mask, bit, spare amd64.Reg) {
	e.Op(amd64.Xor, 4, spare, spare)
	e.Bts(4, spare, bit)
	e.Un(amd64.Neg, 4, spare)
	e.Op(amd64.And, 4, mask, spare)
}

// keepBelow clears the bits of mask from bit on, bit being less than 16: it is
// anded with 2^bit − 1.
func (e *emitter) keepBelow(mask, bit, spare amd64.Reg) {
	e.Op(amd64.Xor, 4, spare, spare)
	e.Bts(4, spare, bit)
	e.OpImm(amd64.Sub, 4, spare, 1)
	e.Op(amd64.And, 4, mask, spare)
}

// match sets the mask from the chunk.
func (e *emitter) match(s scanner) {
	e.chunk(vecChunk, e.source(s.c, s.t, windowScan))
	e.Vec(amd64.PCmpEqB, vecChunk, vecSought)
	e.PMovMskB(s.mask, vecChunk)
}

// nextMatch leaves the address of the next byte sought in c, the mask being that
// of the current chunk; or goes to none when there is none before end.
func (e *emitter) nextMatch(s scanner, none amd64.Label) {
	again, found := e.Label(), e.Label()
	e.Test(4, s.mask, s.mask)
	e.Jcc(amd64.CondNE, found)
	e.Bind(again)
	e.nextChunk(s, none)
	e.Test(4, s.mask, s.mask)
	e.Jcc(amd64.CondE, again)
	e.Bind(found)
	e.Bsf(4, s.mask, s.mask)
	e.Op(amd64.Add, 8, s.c, s.mask)
	e.Op(amd64.Cmp, 8, s.c, s.end)
	e.Jcc(amd64.CondAE, none)
}

// nextChunk moves on by a chunk, or goes to none past the end.
func (e *emitter) nextChunk(s scanner, none amd64.Label) {
	e.OpImm(amd64.Add, 8, s.c, 16)
	e.Op(amd64.Cmp, 8, s.c, s.end)
	e.Jcc(amd64.CondAE, none)
	e.atBoundary(s.c, windowScan)
	e.match(s)
}

// sumEvery is how often the columns of vecSum are added up: before one of their
// bytes can overflow.
const sumEvery = 128 * 16

// countChunks counts in d, the mask being that of the first chunk. Whole chunks
// are counted by column in vecSum; the first and the last by their masks.
func (e *emitter) countChunks(s scanner, d, spare amd64.Reg) {
	again, last, whole, inside := e.Label(), e.Label(), e.Label(), e.Label()
	e.Op(amd64.Xor, 4, d, d)
	e.Vec(amd64.PXor, vecSum, vecSum)
	e.tail(s, spare)
	e.addBits(d, s.mask, s.t)

	e.Bind(again)
	e.OpImm(amd64.Add, 8, s.c, 16)
	e.Lea(s.t, amd64.At(s.c, 16))
	e.Op(amd64.Cmp, 8, s.t, s.end)
	e.Jcc(amd64.CondA, last)
	e.TestImm(4, s.c, min(sumEvery, e.readable())-1)
	e.Jcc(amd64.CondNE, inside)
	e.sum(d, s.t)
	e.atBoundary(s.c, windowScan)
	e.Bind(inside)
	e.chunk(vecChunk, e.source(s.c, s.t, windowScan))
	e.Vec(amd64.PCmpEqB, vecChunk, vecSought)
	e.Vec(amd64.PSubB, vecSum, vecChunk) // a match is −1
	e.Jmp(again)

	e.Bind(last)
	e.Op(amd64.Cmp, 8, s.c, s.end)
	e.Jcc(amd64.CondAE, whole)
	e.atBoundary(s.c, windowScan)
	e.match(s)
	e.tail(s, spare)
	e.addBits(d, s.mask, s.t)
	e.Bind(whole)
	e.sum(d, s.t)
}

// tail clears the bits of mask that stand for bytes at and after the end.
func (e *emitter) tail(s scanner, spare amd64.Reg) {
	whole := e.Label()
	e.Mov(8, s.t, s.end)
	e.Op(amd64.Sub, 8, s.t, s.c)
	e.OpImm(amd64.Cmp, 8, s.t, 16)
	e.Jcc(amd64.CondAE, whole)
	e.keepBelow(s.mask, s.t, spare)
	e.Bind(whole)
}

// addBits adds the number of bits set in the low 16 of mask to d. mask and t
// are clobbered.
func (e *emitter) addBits(d, mask, t amd64.Reg) {
	e.Mov(4, t, mask)
	e.ShiftImm(amd64.Shr, 4, t, 1)
	e.OpImm(amd64.And, 4, t, 0x5555)
	e.Op(amd64.Sub, 4, mask, t)
	e.Mov(4, t, mask)
	e.ShiftImm(amd64.Shr, 4, t, 2)
	e.OpImm(amd64.And, 4, t, 0x3333)
	e.OpImm(amd64.And, 4, mask, 0x3333)
	e.Op(amd64.Add, 4, mask, t)
	e.Mov(4, t, mask)
	e.ShiftImm(amd64.Shr, 4, t, 4)
	e.Op(amd64.Add, 4, mask, t)
	e.OpImm(amd64.And, 4, mask, 0x0f0f)
	e.Mov(4, t, mask)
	e.ShiftImm(amd64.Shr, 4, t, 8)
	e.Op(amd64.Add, 4, mask, t)
	e.OpImm(amd64.And, 4, mask, 0x1f)
	e.Op(amd64.Add, 8, d, mask)
}

// sum adds the columns of vecSum to d and clears them. t is clobbered.
func (e *emitter) sum(d, t amd64.Reg) {
	e.Vec(amd64.PXor, vecChunk, vecChunk)
	e.Vec(amd64.PSadBW, vecSum, vecChunk)
	e.MovFromVec(4, t, vecSum)
	e.Op(amd64.Add, 8, d, t)
	e.PShufD(vecSum, vecSum, 0xee)
	e.MovFromVec(4, t, vecSum)
	e.Op(amd64.Add, 8, d, t)
	e.Vec(amd64.PXor, vecSum, vecSum)
}
