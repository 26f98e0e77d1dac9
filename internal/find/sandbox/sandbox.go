// Package sandbox tells from a program's file whether it seems to enter a seccomp
// sandbox (seccomp(2)) once it runs, as vsftpd, the children of sshd and many a server
// do: such a filter may end the program for a system call of a guard's.
//
// What is looked for is what nobody enters one without:
//
//   - libseccomp among the libraries it needs, or functions of it that it imports.
//   - AUDIT_ARCH_X86_64, which a filter that is worth anything compares the
//     architecture with first: in a table of instructions, or as an operand of code
//     that writes them.
//   - A call of prctl(2) with PR_SET_SECCOMP, or of seccomp(2), by number.
//
// Signs can be missed: a library that is loaded by name later, or that makes these calls
// for the program; numbers that are computed; a filter without a look at the
// architecture in a Go program. And a program that shows one need not enter a sandbox:
// it may be told not to, or only know the constant, as debuggers do.
package sandbox

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// library is what the SONAMEs of libseccomp's versions begin with.
const library = "libseccomp.so"

// IsLibrary tells whether a SONAME is libseccomp's.
func IsLibrary(soname string) bool { return strings.HasPrefix(soname, library) }

// Sign says by what a program's own file shows that it may enter a sandbox, in words
// that go on from "the program"; "" where it shows nothing. What the libraries are that
// its libraries need, the file does not say.
func Sign(f *binfile.File) (string, error) {
	for _, name := range f.Needed() {
		if IsLibrary(name) {
			return "is linked with " + name, nil
		}
	}
	entries, err := readEntries(f)
	if err != nil {
		return "", err
	}
	if entries.libseccomp != "" {
		return "imports " + entries.libseccomp, nil
	}
	s := search{f: f, entries: entries}
	for _, seg := range f.Segments {
		if seg.Type != elf.PT_LOAD || seg.Filesz == 0 {
			continue
		}
		if sign, err := s.segment(seg); sign != "" || err != nil {
			return sign, err
		}
	}
	return "", nil
}

// entries are the places where the dynamic linker writes the addresses of functions
// that make system calls for the program.
type entries struct {
	prctl, syscall map[address.Vaddr]bool
	libseccomp     string // a function of libseccomp's
	static         bool   // nothing is linked: the functions are in the file
}

func readEntries(f *binfile.File) (entries, error) {
	e := entries{prctl: map[address.Vaddr]bool{}, syscall: map[address.Vaddr]bool{}, static: f.Interp() == ""}
	syms, err := f.DynSymbols()
	if err != nil {
		return e, nil // it has none
	}
	relocs, err := f.Relocs()
	if err != nil {
		return e, err
	}
	for _, s := range syms {
		if !s.Defined && strings.HasPrefix(s.Name, "seccomp_") {
			e.libseccomp = s.Name
		}
	}
	for _, r := range relocs {
		if r.Type != elf.R_X86_64_JMP_SLOT && r.Type != elf.R_X86_64_GLOB_DAT || uint64(r.Sym) >= uint64(len(syms)) {
			continue
		}
		switch syms[r.Sym].Name {
		case "prctl":
			e.prctl[r.At] = true
		case "syscall":
			e.syscall[r.At] = true
		}
	}
	return e, nil
}

// Bytes that are searched for.
var (
	archX86_64 = []byte{0x3e, 0x00, 0x00, 0xc0} // AUDIT_ARCH_X86_64, linux/audit.h

	setSeccomp     = []byte{0xbf, 22, 0, 0, 0}      // mov edi, PR_SET_SECCOMP
	setSeccompPush = []byte{0x6a, 22, 0x5f}         // push PR_SET_SECCOMP; pop rdi
	callSeccomp    = []byte{0xbf, 0x3d, 0x01, 0, 0} // mov edi, SYS_seccomp
	numberSeccomp  = []byte{0xb8, 0x3d, 0x01, 0, 0} // mov eax, SYS_seccomp
	numberPrctl    = []byte{0xb8, 0x9d, 0x00, 0, 0} // mov eax, SYS_prctl
	syscallInsn    = []byte{0x0f, 0x05}
)

const (
	// pieces are how much of a segment is read at once, in bytes.
	piece = 1 << 20
	// within is how far behind its first argument a call stands, in bytes.
	within = 48
	// callSize is how many bytes a direct call and one through memory have at most.
	callSize = 6
	// overlap is kept of a piece for what begins at its end.
	overlap = within + callSize + 8
)

// search is a search through the segments of one file.
type search struct {
	f       *binfile.File
	entries entries
}

func (s *search) segment(seg binfile.Segment) (string, error) {
	buf := make([]byte, min(uint64(piece), seg.Filesz))
	for off := uint64(0); off < seg.Filesz; {
		b := buf[:min(uint64(len(buf)), seg.Filesz-off)]
		at := seg.Vaddr + address.Vaddr(off)
		if err := s.f.ReadVaddr(b, at); err != nil {
			return "", fmt.Errorf("looking for a sandbox: %w", err)
		}
		if comparesArch(b, seg.Flags&elf.PF_X != 0) {
			return "holds a seccomp filter's look at the architecture (AUDIT_ARCH_X86_64)", nil
		}
		if seg.Flags&elf.PF_X != 0 {
			if sign := s.code(b, at); sign != "" {
				return sign, nil
			}
		}
		if off+uint64(len(b)) == seg.Filesz {
			break
		}
		off += uint64(len(b) - overlap)
	}
	return "", nil
}

// comparesArch tells whether AUDIT_ARCH_X86_64 stands in b as it does in an instruction of
// a filter, struct sock_filter of linux/filter.h: behind BPF_JMP|BPF_JEQ|BPF_K and two
// jumps; or, in code, as what a mov writes. Those four bytes alone are found in every
// large program, across two entries of a table.
func comparesArch(b []byte, code bool) bool {
	const opcode, jumps = 0x15, 4 // two bytes of opcode, two of jumps
	for from := 0; ; from++ {
		i := bytes.Index(b[from:], archX86_64)
		if i < 0 {
			return false
		}
		from += i
		if from >= jumps && b[from-jumps] == opcode && b[from-jumps+1] == 0 || code && movesImmediate(b[:from]) {
			return true
		}
	}
}

// movesImmediate tells whether b ends in a mov of 32 bits up to its immediate operand.
func movesImmediate(b []byte) bool {
	const movReg, movMem, longest = 0xb8, 0xc7, 7
	if n := len(b); n > 0 && b[n-1]&^7 == movReg {
		return true
	}
	for n := 2; n <= longest && n <= len(b); n++ {
		if x := b[len(b)-n:]; x[0] == movMem && movMemSize(x) == n {
			return true
		}
	}
	return false
}

// movMemSize is how many bytes a mov of an immediate to memory has ahead of it, 0 where x
// is none (Intel SDM, volume 2, table 2-2).
func movMemSize(x []byte) int {
	const reg, sib, disp32 = 0x38, 4, 5
	mod, rm := x[1]>>6, x[1]&7
	if x[1]&reg != 0 || mod == 3 {
		return 0
	}
	n := 2
	if rm == sib {
		n++
	}
	switch {
	case mod == 1:
		n++
	case mod == 2, rm == disp32, rm == sib && len(x) > 2 && x[2]&7 == disp32:
		n += 4
	}
	return n
}

// code looks for calls in b, which is code at at.
func (s *search) code(b []byte, at address.Vaddr) string {
	const prctl, seccomp = "calls prctl(PR_SET_SECCOMP)", "calls seccomp(2)"
	for _, x := range []struct {
		argument []byte
		called   func(near []byte, at address.Vaddr) bool
		sign     string
	}{
		{setSeccomp, s.callsPrctl, prctl},
		{setSeccompPush, s.callsPrctl, prctl},
		{callSeccomp, s.callsSyscall, seccomp},
		{numberSeccomp, s.entersKernel, seccomp},
	} {
		for from := 0; ; {
			i := bytes.Index(b[from:], x.argument)
			if i < 0 {
				break
			}
			from += i + len(x.argument)
			near := b[from:min(len(b), from+within+callSize)]
			if x.called(near, at+address.Vaddr(from)) {
				return x.sign
			}
		}
	}
	return ""
}

func (s *search) entersKernel(near []byte, _ address.Vaddr) bool {
	return bytes.Contains(near, syscallInsn)
}

// callsPrctl tells whether code at at calls prctl, or is it.
func (s *search) callsPrctl(near []byte, at address.Vaddr) bool {
	if i := bytes.Index(near, numberPrctl); i >= 0 && bytes.Contains(near[i:], syscallInsn) {
		return true
	}
	return s.calls(near, at, s.entries.prctl, numberPrctl)
}

func (s *search) callsSyscall(near []byte, at address.Vaddr) bool {
	return s.calls(near, at, s.entries.syscall, nil)
}

// calls tells whether the first call or jump to somewhere else in code at at leads to where
// one of entries does or, where nothing is linked, to a function that enters the kernel
// with number.
func (s *search) calls(near []byte, at address.Vaddr, entries map[address.Vaddr]bool, number []byte) bool {
	const call, jmp, group5, callMem, jmpMem = 0xe8, 0xe9, 0xff, 0x15, 0x25
	for i := 0; i+callSize <= len(near) && i < within; i++ {
		switch {
		case near[i] == call || near[i] == jmp:
			if to := target(near[i+1:], at+address.Vaddr(i+5)); s.f.IsCode(to) {
				return s.leadsTo(to, entries, number)
			}
		case near[i] == group5 && (near[i+1] == callMem || near[i+1] == jmpMem):
			return entries[target(near[i+2:], at+address.Vaddr(i+6))]
		}
	}
	return false
}

// target is where a relative operand of an instruction that ends at end points.
func target(operand []byte, end address.Vaddr) address.Vaddr {
	return end + address.Vaddr(int64(int32(binary.LittleEndian.Uint32(operand))))
}

// leadsTo tells whether the code at to goes on where one of entries says, as the procedure
// linkage table does, or makes the call itself.
func (s *search) leadsTo(to address.Vaddr, entries map[address.Vaddr]bool, number []byte) bool {
	const body = 128 // of prctl in a C library, up to its system call
	b := make([]byte, min(uint64(body), s.f.Mapped(to)))
	if s.f.ReadVaddr(b, to) != nil {
		return false
	}
	if s.entries.static {
		i := bytes.Index(b, number)
		return i >= 0 && bytes.Contains(b[i:], syscallInsn)
	}
	endbr64, jmpMem := []byte{0xf3, 0x0f, 0x1e, 0xfa}, []byte{0xff, 0x25}
	at := to
	if bytes.HasPrefix(b, endbr64) {
		b, at = b[len(endbr64):], at+address.Vaddr(len(endbr64))
	}
	if len(b) > 0 && b[0] == 0xf2 { // bnd, of linkers for MPX
		b, at = b[1:], at+1
	}
	return len(b) >= 6 && bytes.HasPrefix(b, jmpMem) && entries[target(b[2:], at+6)]
}
