package locate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/patch-integration-engine/pie/internal/address"
)

// ErrNoErrno says that the process has no __errno_location that could be read:
// a program without a C library, or a stripped static one.
var ErrNoErrno = errors.New("where the program keeps errno is not known")

// Errno finds where a thread's errno is, in bytes relative to the fs base, by
// reading the code of __errno_location; it is not called. Where the C library
// goes through its GOT (initial-exec TLS) the slot is read: ld.so filled it
// before the program started, and the offset is the same in every thread for
// good. The error is ErrNoErrno where there is nothing to read, or says which
// instruction was not understood.
func (s *Set) Errno() (offset int32, err error) {
	known := false
	for _, im := range s.Images {
		t, err := readTables(im.File)
		if err != nil {
			continue // not the C library this process runs on
		}
		all := t.exact(name{base: "__errno_location"})
		if len(all) == 0 {
			continue
		}
		off, err := s.errnoOffset(im, all[0].vaddr)
		if err != nil {
			return 0, fmt.Errorf("%s: __errno_location at %v: %w", im.Path, all[0].vaddr, err)
		}
		if known && offset != off {
			return 0, fmt.Errorf("%s has an errno of its own: %w", im.Path, ErrNoErrno)
		}
		known, offset = true, off
	}
	if !known {
		return 0, ErrNoErrno
	}
	return offset, nil
}

// errnoOffset runs the function's few instructions on a value of the form
// fs·k + offset in rax, and returns the offset when it returns fs + offset.
func (s *Set) errnoOffset(im *Image, v address.Vaddr) (int32, error) {
	code := make([]byte, min(48, im.File.Mapped(v)))
	if err := im.File.ReadVaddr(code, v); err != nil {
		return 0, err
	}
	m := errnoMachine{code: code, at: v.Addr(im.Bias)}
	m.load = func(a address.Addr) (int64, error) {
		if !im.Contains(a) {
			return 0, fmt.Errorf("a load from %v, outside the image", a)
		}
		var word [1]uint64
		err := s.words(word[:], a)
		return int64(word[0]), err
	}
	off, err := m.run()
	if err != nil {
		return 0, err
	}
	// The static TLS block lies below fs, the thread's own structure above.
	if off < math.MinInt32 || off > math.MaxInt32 {
		return 0, fmt.Errorf("an offset of %d", off)
	}
	return int32(off), nil
}

// errnoMachine interprets the forms in which C libraries compile the function.
type errnoMachine struct {
	code []byte
	at   address.Addr // of code[0]
	load func(address.Addr) (int64, error)
	fs   int   // how often rax holds the thread pointer
	off  int64 // what rax holds besides
}

func (m *errnoMachine) run() (int64, error) {
	for range 8 {
		done, err := m.step()
		if err != nil {
			return 0, err
		}
		if done {
			if m.fs != 1 {
				return 0, errors.New("it does not return an address of the thread")
			}
			return m.off, nil
		}
	}
	return 0, errors.New("it does more than return an address")
}

// step executes one instruction. Offsets in the comments are of the immediate.
func (m *errnoMachine) step() (done bool, err error) {
	imm := func(at, size int) int64 {
		if len(m.code) < at+size {
			err = errors.New("its code ends early")
			return 0
		}
		if size == 1 {
			return int64(int8(m.code[at]))
		}
		return int64(int32(binary.LittleEndian.Uint32(m.code[at:])))
	}
	ripLoad := func() (v int64) {
		if rel := imm(3, 4); err == nil {
			v, err = m.load(m.at.Add(7 + rel))
		}
		return v
	}
	n := 0
	switch {
	case m.is(0xf3, 0x0f, 0x1e, 0xfa): // endbr64
		n = 4
	case m.is(0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0): // mov rax, fs:0
		m.fs, m.off, n = 1, 0, 9
	case m.is(0x64, 0x48, 0x03, 0x04, 0x25, 0, 0, 0, 0): // add rax, fs:0
		m.fs, n = m.fs+1, 9
	case m.is(0x48, 0x8b, 0x05): // mov rax, [rip+rel32]
		m.fs, m.off, n = 0, ripLoad(), 7
	case m.is(0x48, 0x03, 0x05): // add rax, [rip+rel32]
		m.off, n = m.off+ripLoad(), 7
	case m.is(0x48, 0xc7, 0xc0): // mov rax, imm32
		m.fs, m.off, n = 0, imm(3, 4), 7
	case m.is(0x48, 0x8d, 0x80): // lea rax, [rax+disp32]
		m.off, n = m.off+imm(3, 4), 7
	case m.is(0x48, 0x8d, 0x40): // lea rax, [rax+disp8]
		m.off, n = m.off+imm(3, 1), 4
	case m.is(0x48, 0x05): // add rax, imm32
		m.off, n = m.off+imm(2, 4), 6
	case m.is(0x48, 0x2d): // sub rax, imm32
		m.off, n = m.off-imm(2, 4), 6
	case m.is(0x48, 0x83, 0xc0): // add rax, imm8
		m.off, n = m.off+imm(3, 1), 4
	case m.is(0x48, 0x83, 0xe8): // sub rax, imm8
		m.off, n = m.off-imm(3, 1), 4
	case m.is(0xc3): // ret
		return true, err
	default:
		return false, fmt.Errorf("an unexpected instruction: % x", m.code[:min(8, len(m.code))])
	}
	if err != nil {
		return false, err
	}
	m.code, m.at = m.code[n:], m.at.Add(int64(n))
	return false, nil
}

func (m *errnoMachine) is(prefix ...byte) bool { return bytes.HasPrefix(m.code, prefix) }
