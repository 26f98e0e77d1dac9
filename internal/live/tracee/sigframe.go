package tracee

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// A frame is what makes a remote system call heal by itself. It is a stack
// that leads from the 'ret' after the system call into rt_sigreturn(2), which
// restores all registers, the signal mask and the vector state:
//
//	+0     address of 'pop rax; ret'          ← rsp during the call
//	+8     15, the number of rt_sigreturn
//	+16    address of 'syscall; ret'          = pretcode of struct rt_sigframe
//
// or, where there is no 'pop rax; ret', of 'ret', of 'ret' and of 'mov rax, 15; syscall',
//
//	+24    struct ucontext                    ← rsp in rt_sigreturn
//	+328   struct siginfo, unused; behind it what a later pie is to know
//	+512   the XSAVE area, 64-byte aligned, and its second magic number
//
// Layouts: struct rt_sigframe and struct ucontext of the kernel's
// arch/x86/include/{asm/sigframe.h,uapi/asm/ucontext.h,sigcontext.h}.
const (
	frameSigframe = 16
	frameXState   = 512
	frameMapping  = 456 // u64 address, u64 length: what the call is to map
	frameMark     = 480 // frameMagic: recognises a frame a killed tracer left
	frameOwner    = 488 // u32, the thread that goes through it
	frameLength   = 492 // u32, bytes of the frame
	frameSum      = 496 // u64, checksum of the rest: nobody else has written here since
	frameMax      = 16 << 10

	// Offsets in struct rt_sigframe.
	sfFlags   = 8                // uc_flags
	sfStack   = sfFlags + 16     // uc_stack: ss_sp, ss_flags, ss_size
	sfContext = sfFlags + 40     // uc_mcontext, 256 bytes
	sfMask    = sfContext + 256  // uc_sigmask
	sfSS      = sfContext + 18*8 // cs, gs, fs, ss: 16 bits each
	sfFPState = sfContext + 23*8

	// uc_flags: extended state present; ss is saved, and restored exactly.
	ucXState, ucSS, ucStrictSS = 1, 2, 4
	// No such ss_flags exist: rt_sigreturn then leaves the alternate stack alone.
	invalidSSFlags = 0x7ff

	// Software-reserved bytes of the FXSAVE area, which tell rt_sigreturn how
	// long the state is (struct _fpx_sw_bytes).
	swReserved = 464
	magic1     = 0x46505853
	magic2     = 0x46505845
)

// frameMagic marks a frame as ours: "PIEFRAME".
const frameMagic = 0x454d415246454950

// frameSize returns the bytes a frame with n bytes of vector state takes.
func frameSize(n int) int { return frameXState + n + 4 }

// buildFrame writes to b the frame that lies at addr in the target and
// restores regs, mask and xstate of thread owner. addr must be a multiple of 64.
func buildFrame(b []byte, addr address.Addr, owner int, g gadgets, regs *unix.PtraceRegs, mask uint64, xstate []byte) error {
	if len(xstate) < swReserved+48+64 || frameSize(len(xstate)) > len(b) || addr%64 != 0 {
		return fmt.Errorf("vector state of %d bytes does not fit a frame at %v: %w", len(xstate), addr, ErrNoRemoteSyscall)
	}
	clear(b)
	le := binary.LittleEndian
	way := g.wayOut()
	le.PutUint64(b[0:], way[0])
	le.PutUint64(b[8:], way[1])
	le.PutUint64(b[frameMark:], frameMagic)
	le.PutUint32(b[frameOwner:], uint32(owner))
	le.PutUint32(b[frameLength:], uint32(frameSize(len(xstate))))
	sf := b[frameSigframe:]
	le.PutUint64(sf[0:], way[2])
	le.PutUint64(sf[sfFlags:], ucXState|ucSS|ucStrictSS)
	le.PutUint32(sf[sfStack+8:], invalidSSFlags)
	putContext(sf[sfContext:], regs)
	le.PutUint16(sf[sfSS:], uint16(regs.Cs))
	le.PutUint16(sf[sfSS+6:], uint16(regs.Ss))
	le.PutUint64(sf[sfFPState:], uint64(addr)+frameXState)
	le.PutUint64(sf[sfMask:], mask)
	putXState(b[frameXState:], xstate)
	seal(b[:frameSize(len(xstate))])
	return nil
}

// wayOut is what stands on the stack from the call to rt_sigreturn(2).
func (g gadgets) wayOut() [3]uint64 {
	if g.popRaxRet == 0 {
		return [3]uint64{uint64(g.ret()), uint64(g.ret()), uint64(g.sigreturn)}
	}
	return [3]uint64{uint64(g.popRaxRet), unix.SYS_RT_SIGRETURN, uint64(g.syscallRet)}
}

// seal puts its checksum on a frame.
func seal(frame []byte) {
	binary.LittleEndian.PutUint64(frame[frameSum:], checksum(frame))
}

// intactFrame returns the length of the frame that b begins with: 0 when there is
// none, or when a byte of it has been changed since it was written.
func intactFrame(b []byte) int {
	le := binary.LittleEndian
	if len(b) < frameXState || le.Uint64(b[frameMark:]) != frameMagic {
		return 0
	}
	n := int(le.Uint32(b[frameLength:]))
	if n < frameXState || n > len(b) || le.Uint64(b[frameSum:]) != checksum(b[:n]) {
		return 0
	}
	return n
}

// checksum is FNV-1a over the 64-bit words of a frame, but for what is written
// later: the mapping, and the checksum itself.
func checksum(frame []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	sum := uint64(offset)
	add := func(b []byte) {
		for ; len(b) >= 8; b = b[8:] {
			sum = (sum ^ binary.LittleEndian.Uint64(b)) * prime
		}
		for _, c := range b {
			sum = (sum ^ uint64(c)) * prime
		}
	}
	add(frame[:frameMapping])
	add(frame[frameMark:frameSum])
	add(frame[frameXState:])
	return sum
}

// putContext writes the general registers in the order of struct sigcontext.
func putContext(b []byte, r *unix.PtraceRegs) {
	for i, v := range [...]uint64{
		r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15,
		r.Rdi, r.Rsi, r.Rbp, r.Rbx, r.Rdx, r.Rax, r.Rcx, r.Rsp, r.Rip, r.Eflags,
	} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
}

// putXState copies the state that PTRACE_GETREGSET gave, in which the first
// software-reserved word is XCR0, and puts both magic numbers on: without
// them rt_sigreturn would reset everything beyond SSE.
func putXState(b, xstate []byte) {
	le := binary.LittleEndian
	copy(b, xstate)
	features := le.Uint64(xstate[swReserved:])
	sw := b[swReserved : swReserved+48]
	clear(sw)
	le.PutUint32(sw[0:], magic1)
	le.PutUint32(sw[4:], uint32(len(xstate)+4))
	le.PutUint64(sw[8:], features)
	le.PutUint32(sw[16:], uint32(len(xstate)))
	le.PutUint32(b[len(xstate):], magic2)
}

const (
	// tileFeatures are the AMX components 17 and 18, which a task has only
	// after asking for them; tileData alone decides the length.
	tileFeatures = 3 << 17
	tileData     = 1 << 18
	xstateBV     = 512 // XSTATE_BV in the XSAVE header
)

// usedXState cuts off the room for AMX tiles from a state that has none:
// rt_sigreturn refuses a state longer than the task may have, and resets it.
// tileOffset is where the tiles begin (CPUID 0xD, 18), 0 without AMX.
func usedXState(xstate []byte, tileOffset int) []byte {
	le := binary.LittleEndian
	if len(xstate) < xstateBV+8 || le.Uint64(xstate[swReserved:])&tileFeatures == 0 {
		return xstate
	}
	if le.Uint64(xstate[xstateBV:])&tileData != 0 || tileOffset <= xstateBV || tileOffset > len(xstate) {
		return xstate
	}
	return xstate[:tileOffset]
}
