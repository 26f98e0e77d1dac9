package jit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// The fault block: what the signal handler of table mode reads, in the private
// state page of the arena. All fields are u64.
const (
	FaultsTable = 0 // address of the table, ascending records
	FaultsCount = 8 // how many records
	// FaultsOldSEGV and FaultsOldBUS hold the dispositions the program had, as
	// the kernel's struct sigaction: handler, flags, restorer, mask.
	FaultsOldSEGV = 16
	FaultsOldBUS  = 48
	// FaultsSize is the size of the fault block.
	FaultsSize = 80

	// FaultEntrySize is the size of a table record: u64 start, u32 length, i32
	// landing relative to start.
	FaultEntrySize = 16
)

// Offsets in the handler's code. It is to be installed for SIGSEGV and SIGBUS
// with SA_ONSTACK|SA_SIGINFO|SA_NODEFER|SA_RESTORER, the mask of the old
// disposition, handler Code+HandlerEntry and restorer Code+HandlerRestorer.
const (
	HandlerRestorer = 0
	HandlerEntry    = 16
)

// HandlerLayout is where the handler of table mode goes and what it reads.
type HandlerLayout struct {
	Code   address.Addr // where the blob goes, 16-byte aligned
	Faults address.Addr // the fault block, within 2 GiB of Code
}

// FaultTable encodes fault ranges of several guards as the handler reads them.
func FaultTable(ranges []FaultRange) ([]byte, error) {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b FaultRange) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
	table := make([]byte, 0, len(sorted)*FaultEntrySize)
	for i, r := range sorted {
		length, landing := int64(r.End)-int64(r.Start), int64(r.Landing)-int64(r.Start)
		switch {
		case length <= 0 || length > math.MaxInt32 || landing != int64(int32(landing)):
			return nil, fmt.Errorf("fault range %v to %v, landing %v: %w", r.Start, r.End, r.Landing, ErrLayout)
		case i > 0 && sorted[i-1].End > r.Start:
			return nil, fmt.Errorf("fault range at %v overlaps the one before: %w", r.Start, ErrLayout)
		}
		table = binary.LittleEndian.AppendUint64(table, uint64(r.Start))
		table = binary.LittleEndian.AppendUint32(table, uint32(length))
		table = binary.LittleEndian.AppendUint32(table, uint32(landing))
	}
	return table, nil
}

// What the kernel hands a signal handler: arch/x86/include/uapi/asm/sigcontext.h
// and include/uapi/asm-generic/siginfo.h in Linux.
const (
	siCode      = 8
	ucontextRIP = 168
	sigBUS      = 7

	saRestorer = 0x04000000

	oldHandler  = 0 // offsets in struct sigaction
	oldFlags    = 8
	oldRestorer = 16
)

// Handler returns the code of the signal handler of table mode. A fault in a
// guard goes on at its landing. Every other signal is the program's: its own
// handler gets it with all arguments, its stack and its restorer as if the kernel
// had called it; an ignored one is ignored; a default one is made to happen again
// with the default disposition in place, so that the process ends, and dumps core,
// where it faulted. The one difference: SIGSEGV is not blocked while the program's
// handler runs, for a guard may fault under it.
func Handler(l HandlerLayout) ([]byte, error) {
	if l.Code%16 != 0 || l.Faults%8 != 0 {
		return nil, fmt.Errorf("signal handler at %v with fault block at %v: misaligned: %w", l.Code, l.Faults, ErrLayout)
	}
	h := &handler{Asm: amd64.NewAsm(l.Code), faults: l.Faults}
	h.program = h.Label()
	// The same bytes as in other libraries: unwinders know a signal frame by them.
	h.Raw(0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05) // mov rax, SYS_rt_sigreturn; syscall
	h.Align(HandlerEntry)
	h.lookUp()
	h.Bind(h.program)
	h.forward()
	code, err := h.Bytes()
	if errors.Is(err, amd64.ErrOutOfReach) {
		return nil, fmt.Errorf("signal handler: %w: %w", ErrLayout, err)
	}
	return code, err
}

// handler writes the signal handler. rdi, rsi and rdx are the signal, its
// siginfo and its ucontext throughout.
type handler struct {
	*amd64.Asm
	faults  address.Addr
	program amd64.Label // the signal is the program's
}

func (h *handler) field(off int64) amd64.Mem { return amd64.Abs(h.faults.Add(off)) }

// unlessFault goes to l unless the signal was raised by the instruction at rip.
func (h *handler) unlessFault(l amd64.Label) {
	h.OpStoreImm(amd64.Cmp, 4, amd64.At(amd64.RSI, siCode), 0)
	h.Jcc(amd64.CondLE, l)
}

// lookUp searches the table for the range around rip, by halves.
func (h *handler) lookUp() {
	const (
		rip, table, count = amd64.RAX, amd64.R8, amd64.R9
		half, entry, t    = amd64.R10, amd64.R11, amd64.RCX
	)
	again, below := h.Label(), h.Label()
	h.unlessFault(h.program)
	h.Load(8, rip, amd64.At(amd64.RDX, ucontextRIP))
	h.Load(8, table, h.field(FaultsTable))
	h.Load(8, count, h.field(FaultsCount))
	h.Bind(again)
	h.Test(8, count, count)
	h.Jcc(amd64.CondE, h.program)
	h.Mov(8, half, count)
	h.ShiftImm(amd64.Shr, 8, half, 1)
	h.Mov(8, entry, half)
	h.ShiftImm(amd64.Shl, 8, entry, 4)
	h.Op(amd64.Add, 8, entry, table)
	h.Mov(8, t, rip)
	h.OpLoad(amd64.Sub, 8, t, amd64.At(entry, 0))
	h.Jcc(amd64.CondB, below)
	h.OpImm(amd64.Sub, 8, count, 1)
	h.Op(amd64.Sub, 8, count, half)
	h.Lea(table, amd64.At(entry, FaultEntrySize))
	h.Load(4, half, amd64.At(entry, 8))
	h.Op(amd64.Cmp, 8, t, half)
	h.Jcc(amd64.CondAE, again)
	h.LoadSX(4, t, amd64.At(entry, 12))
	h.OpLoad(amd64.Add, 8, t, amd64.At(entry, 0))
	h.Store(8, amd64.At(amd64.RDX, ucontextRIP), t)
	h.Ret()
	h.Bind(below)
	h.Mov(8, count, half)
	h.Jmp(again)
}

// forward does with the signal what the program asked for.
func (h *handler) forward() {
	const old, disposition = amd64.R8, amd64.RAX
	chosen, call, dfl, ignore, keep := h.Label(), h.Label(), h.Label(), h.Label(), h.Label()
	h.Lea(old, h.field(FaultsOldSEGV))
	h.OpImm(amd64.Cmp, 4, amd64.RDI, sigBUS)
	h.Jcc(amd64.CondNE, chosen)
	h.Lea(old, h.field(FaultsOldBUS))
	h.Bind(chosen)
	h.Load(8, disposition, amd64.At(old, oldHandler))
	h.OpImm(amd64.Cmp, 8, disposition, 1)
	h.Jcc(amd64.CondE, ignore)
	h.Jcc(amd64.CondB, dfl)

	h.Load(8, amd64.RCX, amd64.At(old, oldFlags))
	h.TestImm(4, amd64.RCX, -1<<31) // SA_RESETHAND
	h.Jcc(amd64.CondE, keep)
	h.StoreImm(8, amd64.At(old, oldHandler), 0)
	h.Bind(keep)
	h.TestImm(4, amd64.RCX, saRestorer)
	h.Jcc(amd64.CondE, call)
	h.Load(8, amd64.RCX, amd64.At(old, oldRestorer))
	h.Store(8, amd64.At(amd64.RSP, 0), amd64.RCX)
	h.Bind(call)
	h.JmpReg(disposition)

	h.Bind(ignore)
	h.OpStoreImm(amd64.Cmp, 4, amd64.At(amd64.RSI, siCode), 0)
	h.Jcc(amd64.CondG, dfl) // the kernel does not let a fault be ignored
	h.Ret()
	h.Bind(dfl)
	h.defaultAction()
}

// defaultAction restores the default disposition, and returns to the fault or,
// when there was none, sends the signal again.
func (h *handler) defaultAction() {
	again, installed := h.Label(), h.Label()
	h.Push(amd64.RSI)
	h.Push(amd64.RDI)
	for range 4 {
		h.PushImm(0) // struct sigaction: SIG_DFL, no flags, no restorer, no mask
	}
	h.MovImm(amd64.RAX, sysRtSigaction)
	h.Mov(8, amd64.RSI, amd64.RSP)
	h.Op(amd64.Xor, 4, amd64.RDX, amd64.RDX)
	h.MovImm(amd64.R10, 8)
	h.Syscall()
	h.OpImm(amd64.Add, 8, amd64.RSP, 32)
	h.Pop(amd64.RDX) // the signal
	h.Pop(amd64.RSI)
	h.Test(8, amd64.RAX, amd64.RAX)
	h.Jcc(amd64.CondE, installed)
	h.UD2() // a filter forbids it: end here rather than fault for ever
	h.Bind(installed)
	h.unlessFault(again)
	h.Ret()
	h.Bind(again)
	h.MovImm(amd64.RAX, sysGetpid)
	h.Syscall()
	h.Mov(8, amd64.RDI, amd64.RAX)
	h.MovImm(amd64.RAX, sysGettid)
	h.Syscall()
	h.Mov(8, amd64.RSI, amd64.RAX)
	h.MovImm(amd64.RAX, sysTgkill)
	h.Syscall()
	h.Ret()
}
