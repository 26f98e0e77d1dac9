package jit

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
)

// A call that passes leaves a guard at its link: LinkSize bytes of its code,
// right behind the compares of the common way. They are a nop, and then what
// Layout.After wrote runs next, or a jump to the next guard of the site. So a lone
// guard costs what a detour written by hand does: one jump there, one back. A jump
// through a pointer in data would cost another cycle or two, a jump to a
// trampoline elsewhere as much.
//
// A link lies in one aligned word of 8 bytes, so that one store changes it. Code
// that a thread may be in has its link written only while every thread is stopped.

// LinkSize is the size of a link, in bytes.
const LinkSize = 5

// linkWord is the aligned word that a link lies in, in bytes.
const linkWord = 8

// LinkFits reports whether a link may be off bytes into a block.
func LinkFits(off int) bool { return off >= 0 && off%linkWord+LinkSize <= linkWord }

// linkThrough is the link of a site's last guard: nop (Intel SDM vol. 2, NOP).
var linkThrough = [LinkSize]byte{0x0f, 0x1f, 0x44}

const (
	jmpRel32 = 0xe9
	jmpSize  = 5
	filler   = 0xcc // int3: behind a jump, never reached
)

// errJumpReach means that a target is more than 2 GiB away.
var errJumpReach = errors.New("out of reach of a 32-bit displacement")

// Link returns the link at at that leads to the guard at to, or, with to 0, into
// what follows.
func Link(at, to address.Addr) ([]byte, error) {
	if to == 0 {
		return append([]byte(nil), linkThrough[:]...), nil
	}
	return Jump(at, to, LinkSize)
}

// ReadLink returns where the link at at leads, 0 for into what follows. ok is
// false when b is no link.
func ReadLink(at address.Addr, b []byte) (to address.Addr, ok bool) {
	if len(b) == LinkSize && [LinkSize]byte(b) == linkThrough {
		return 0, true
	}
	return ReadJump(at, b)
}

// Jump returns n bytes for at, jmpSize at least: jmp rel32 to to, then int3.
func Jump(at, to address.Addr, n int) ([]byte, error) {
	d := int64(to - at.Add(jmpSize))
	if d != int64(int32(d)) || n < jmpSize {
		return nil, fmt.Errorf("jump from %v to %v in %d bytes: %w", at, to, n, errJumpReach)
	}
	b := binary.LittleEndian.AppendUint32([]byte{jmpRel32}, uint32(d))
	for len(b) < n {
		b = append(b, filler)
	}
	return b, nil
}

// ReadJump returns where b leads, which Jump made for at.
func ReadJump(at address.Addr, b []byte) (to address.Addr, ok bool) {
	if len(b) < jmpSize || b[0] != jmpRel32 {
		return 0, false
	}
	for _, x := range b[jmpSize:] {
		if x != filler {
			return 0, false
		}
	}
	return at.Add(jmpSize + int64(int32(binary.LittleEndian.Uint32(b[1:])))), true
}
