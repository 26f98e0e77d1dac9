package jit

import "github.com/patch-integration-engine/pie/internal/isa/amd64"

// zeroPiece is how many bytes one system call sets to 0.
const zeroPiece = 256

// zeroer holds the registers of HelperZero.
type zeroer struct {
	c   amd64.Reg // the next byte
	end amd64.Reg // past the last that the fuel pays for
	t   amd64.Reg
}

// zero writes bpf.HelperZero. Fuel limits how far it goes, and is paid at the end.
func (e *emitter) zero(v *value) {
	z := zeroer{c: v.temp[0], end: v.temp[1], t: v.temp[2]}
	dry, done := e.Label(), e.Label()
	e.burnt = true
	e.length(z.end, v.args[1])
	e.affordable(z.end, z.t)
	e.Test(8, z.end, z.end)
	e.Jcc(amd64.CondE, done)
	e.move(z.c, v.args[0])
	e.userHalf(z.c, z.t)
	e.Op(amd64.Add, 8, z.end, z.c)
	e.noneOwn(z)
	e.unlessActs(dry)
	if e.l.Faults == Table {
		e.zeroByStores(z, done)
	} else {
		e.zeroByCalls(z)
	}
	e.Bind(done)
	e.move(z.c, v.args[1])
	e.payFor(z.c, z.t)
	e.MovImm(e.result(v), 0)
	land := e.land()
	e.later = append(e.later, func() {
		e.framed, e.pushed = true, 0
		e.Bind(dry)
		e.lookThrough(z, land)
		e.Jmp(done)
	})
}

// noneOwn is notOwn for all bytes up to end. A range that wraps ends in a fault at
// the end of the user half.
func (e *emitter) noneOwn(z zeroer) {
	clear, clearToo := e.Label(), e.Label()
	e.Lea(z.t, amd64.At(amd64.RSP, e.pushed-belowFrame))
	e.Op(amd64.Cmp, 8, z.end, z.t)
	e.Jcc(amd64.CondBE, clear)
	e.Lea(z.t, amd64.At(amd64.RSP, e.frameSize()+e.site.SPDelta+8))
	e.Op(amd64.Cmp, 8, z.c, z.t)
	e.Jcc(amd64.CondB, e.land())
	e.Bind(clear)
	if e.l.OwnEnd > e.l.OwnStart {
		e.Lea(z.t, amd64.Abs(e.l.OwnStart))
		e.Op(amd64.Cmp, 8, z.end, z.t)
		e.Jcc(amd64.CondBE, clearToo)
		e.Lea(z.t, amd64.Abs(e.l.OwnEnd))
		e.Op(amd64.Cmp, 8, z.c, z.t)
		e.Jcc(amd64.CondB, e.land())
	}
	e.Bind(clearToo)
}

// zeroByStores clears bytes up to an aligned word, words, and the bytes that are
// left, so that all before one that cannot be written are 0.
func (e *emitter) zeroByStores(z zeroer, done amd64.Label) {
	head, words, tail := e.Label(), e.Label(), e.Label()
	e.Bind(head)
	e.TestImm(4, z.c, 7)
	e.Jcc(amd64.CondE, words)
	e.Op(amd64.Cmp, 8, z.c, z.end)
	e.Jcc(amd64.CondAE, done)
	e.zeroByte(z)
	e.Jmp(head)

	e.Bind(words)
	e.Lea(z.t, amd64.At(z.c, 8))
	e.Op(amd64.Cmp, 8, z.t, z.end)
	e.Jcc(amd64.CondA, tail)
	start := e.Here()
	e.StoreImm(8, amd64.At(z.c, 0), 0)
	e.mayFault(start, e.land())
	e.Mov(8, z.c, z.t)
	e.Jmp(words)

	e.Bind(tail)
	e.Op(amd64.Cmp, 8, z.c, z.end)
	e.Jcc(amd64.CondAE, done)
	e.zeroByte(z)
	e.Jmp(tail)
}

func (e *emitter) zeroByte(z zeroer) {
	start := e.Here()
	e.StoreImm(1, amd64.At(z.c, 0), 0)
	e.mayFault(start, e.land())
	e.OpImm(amd64.Add, 8, z.c, 1)
}

// zeroByCalls copies pieces of zeros over the memory.
func (e *emitter) zeroByCalls(z zeroer) {
	e.poked, e.zeroed = true, true
	again, last := e.Label(), e.Label()
	e.Bind(again)
	e.Mov(8, z.t, z.end)
	e.Op(amd64.Sub, 8, z.t, z.c)
	e.OpImm(amd64.Cmp, 8, z.t, zeroPiece)
	e.Jcc(amd64.CondBE, last)
	e.MovImm(z.t, zeroPiece)
	e.Bind(last)
	e.push(z.c)
	e.push(z.t)
	e.Op(amd64.Add, 8, z.c, z.t)
	e.Lea(z.t, amd64.LabelMem(e.zeros))
	e.push(z.t)
	e.callCopy(e.pokes)
	e.drop(24)
	e.Jcc(amd64.CondB, e.land())
	e.Op(amd64.Cmp, 8, z.c, z.end)
	e.Jcc(amd64.CondB, again)
}

// lookThrough reads a byte of each page, and goes to land where one cannot be read.
func (e *emitter) lookThrough(z zeroer, land amd64.Label) {
	again := e.Label()
	e.Bind(again)
	e.lookAt(z.t, amd64.At(z.c, 0), 1, land)
	e.OpImm(amd64.Or, 8, z.c, pageSize-1)
	e.OpImm(amd64.Add, 8, z.c, 1)
	e.Op(amd64.Cmp, 8, z.c, z.end)
	e.Jcc(amd64.CondB, again)
}
