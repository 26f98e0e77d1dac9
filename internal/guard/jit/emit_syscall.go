package jit

import "github.com/patch-integration-engine/pie/internal/isa/amd64"

// Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl in Linux) and
// what they answer.
const (
	sysRtSigaction     = 13
	sysRtSigprocmask   = 14
	sysGetpid          = 39
	sysSigaltstack     = 131
	sysGettid          = 186
	sysExitGroup       = 231
	sysTgkill          = 234
	sysProcessVMReadv  = 310
	sysProcessVMWritev = 311

	errnoEINVAL = 22
	errnoEFAULT = 14
)

// Stack that the routines use, their return address included.
const (
	probeStack = 8 * (1 + 7)
	fetchStack = 8 * (1 + 9 + 4)
)

// writeProbe writes the routine behind probeAt: the carry flag says that the
// address pushed last cannot be read. rt_sigprocmask(2) copies the new mask in
// before it looks at how, so that an impossible how gives EFAULT for memory that
// cannot be read and EINVAL for memory that can, and changes nothing.
func (e *emitter) writeProbe() {
	saves := []amd64.Reg{amd64.RAX, amd64.RCX, amd64.R11, amd64.RDI, amd64.RSI, amd64.RDX, amd64.R10}
	e.Bind(e.probe)
	for _, r := range saves {
		e.Push(r)
	}
	e.Load(8, amd64.RSI, amd64.At(amd64.RSP, int32(8*len(saves)+8)))
	e.OpImm(amd64.And, 8, amd64.RSI, -8)
	e.MovImm(amd64.RAX, sysRtSigprocmask)
	e.MovImm(amd64.RDI, 0xffffffff)
	e.Op(amd64.Xor, 4, amd64.RDX, amd64.RDX)
	e.MovImm(amd64.R10, 8)
	e.Syscall()
	e.OpImm(amd64.Sub, 8, amd64.RAX, -errnoEINVAL)
	e.Un(amd64.Neg, 8, amd64.RAX) // CF = something else
	for i := range saves {
		e.Pop(saves[len(saves)-1-i])
	}
	e.Ret()
}

// fetchSaves are the registers that copySelf clobbers.
var fetchSaves = []amd64.Reg{
	amd64.RAX, amd64.RCX, amd64.R11, amd64.RDI, amd64.RSI, amd64.RDX, amd64.R10, amd64.R8, amd64.R9,
}

// writeFetch writes the routine behind fetchReach: it copies n bytes from addr to
// dst, pushed in the order addr, n, dst; the carry flag says that not all could
// be read. process_vm_readv(2) on the process itself never faults, whatever other
// threads unmap meanwhile. The process asks for its id each time: a child that
// inherits this code has another.
func (e *emitter) writeFetch() { e.writeCopy(e.fetch, sysProcessVMReadv) }

// writePoke writes the routine behind poke: as writeFetch, but it copies n bytes
// from dst to addr.
func (e *emitter) writePoke() { e.writeCopy(e.pokes, sysProcessVMWritev) }

func (e *emitter) writeCopy(at amd64.Label, call int64) {
	dst, n, addr := int32(8*len(fetchSaves)+8), int32(8*len(fetchSaves)+16), int32(8*len(fetchSaves)+24)
	e.Bind(at)
	for _, r := range fetchSaves {
		e.Push(r)
	}
	e.Load(8, amd64.RDI, amd64.At(amd64.RSP, addr))
	e.Load(8, amd64.RSI, amd64.At(amd64.RSP, n))
	e.Load(8, amd64.RDX, amd64.At(amd64.RSP, dst))
	e.copySelf(call)
	e.endCopy(amd64.At(amd64.RSP, n))
}

// endCopy ends a routine that copied: the carry flag says that fewer bytes came than wanted,
// or an error. An error that is not about the address is counted.
func (e *emitter) endCopy(wanted amd64.Mem) {
	failed, told := e.Label(), e.Label()
	e.OpImm(amd64.Cmp, 8, amd64.RAX, 0)
	e.Jcc(amd64.CondL, failed)
	e.Bind(told)
	e.OpLoad(amd64.Sub, 8, amd64.RAX, wanted)
	e.Un(amd64.Neg, 8, amd64.RAX)
	for i := range fetchSaves {
		e.Pop(fetchSaves[len(fetchSaves)-1-i])
	}
	e.Ret()
	e.Bind(failed)
	e.OpImm(amd64.Cmp, 8, amd64.RAX, -errnoEFAULT)
	e.Jcc(amd64.CondE, told)
	e.LockInc(e.counter(CounterRefused))
	e.Jmp(told)
}

// writeFetchInto writes the routine behind fetchWindow: from addr to the end of
// its window, to the same place in the copy whose address was pushed after it.
func (e *emitter) writeFetchInto() {
	buf, addr := int32(8*len(fetchSaves)+8), int32(8*len(fetchSaves)+16)
	e.Bind(e.fetchInto)
	for _, r := range fetchSaves {
		e.Push(r)
	}
	e.Load(8, amd64.RDI, amd64.At(amd64.RSP, addr))
	e.Mov(4, amd64.RDX, amd64.RDI)
	e.OpImm(amd64.And, 4, amd64.RDX, windowSize-1)
	e.MovImm(amd64.RSI, windowSize)
	e.Op(amd64.Sub, 4, amd64.RSI, amd64.RDX)
	e.OpLoad(amd64.Add, 8, amd64.RDX, amd64.At(amd64.RSP, buf))
	e.Store(8, amd64.At(amd64.RSP, buf), amd64.RSI)
	e.copySelf(sysProcessVMReadv)
	e.endCopy(amd64.At(amd64.RSP, buf))
}

// copySelf copies rsi bytes from rdi to rdx with process_vm_readv(2), or back with
// process_vm_writev(2); rax becomes how many were copied, or a negated errno. It
// clobbers all registers of fetchSaves.
func (e *emitter) copySelf(call int64) {
	for _, r := range []amd64.Reg{amd64.RSI, amd64.RDI, amd64.RSI, amd64.RDX} {
		e.Push(r) // two iovecs: base, then length upwards; the remote one first
	}
	e.MovImm(amd64.RAX, sysGettid) // not getpid(2): the main thread, which has that id, may have ended
	e.Syscall()
	e.Mov(4, amd64.RDI, amd64.RAX)
	e.Mov(8, amd64.RSI, amd64.RSP)
	e.MovImm(amd64.RDX, 1)
	e.Lea(amd64.R10, amd64.At(amd64.RSP, 16))
	e.MovImm(amd64.R8, 1)
	e.Op(amd64.Xor, 4, amd64.R9, amd64.R9)
	e.MovImm(amd64.RAX, call)
	e.Syscall()
	e.OpImm(amd64.Add, 8, amd64.RSP, 32)
}
