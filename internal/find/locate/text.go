package locate

import (
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Bounds of Function.Text, in bytes.
const (
	maxFunction = 16 << 20
	maxPadding  = 64
)

// ErrNoSize says that where the function ends cannot be told: no symbol size,
// no frame description, nothing known behind it.
var ErrNoSize = errors.New("the end of the function is not known")

// ErrNotCode says that an address lies outside the executable segments.
var ErrNotCode = errors.New("not in an executable segment")

// setText sets Size and Text. size is what the symbol says, 0 for nothing;
// then .eh_frame has the size, or the next known function bounds it.
func setText(f *Function, size uint64) error {
	file := f.Image.File
	if !file.IsCode(f.Vaddr) {
		return fmt.Errorf("%v: %w", f.Vaddr, ErrNotCode)
	}
	room := file.Mapped(f.Vaddr) // to the end of the segment
	if next, ok := f.Image.next(f.Vaddr); ok {
		room = min(room, uint64(next-f.Vaddr))
	}
	trim := false
	if size == 0 {
		if size = frameSize(file, f.Vaddr); size > 0 {
			f.How += ", size from .eh_frame"
		}
	}
	if size == 0 {
		if room == file.Mapped(f.Vaddr) {
			return ErrNoSize
		}
		size, trim = room, true
		f.How += ", size up to the next function"
	}
	if size > maxFunction || size > file.Mapped(f.Vaddr) {
		return fmt.Errorf("a function of %d bytes at %v is out of bounds", size, f.Vaddr)
	}
	text := make([]byte, max(size, min(room, size+maxPadding)))
	if err := file.ReadVaddr(text, f.Vaddr); err != nil {
		return err
	}
	if trim {
		size = codeSize(text)
	}
	f.Size = size
	f.Text = text[:size+padding(text[size:])]
	return nil
}

// codeSize returns how much of text is code before the padding at its end. It
// goes by instructions, since the last one may end in bytes that look like
// padding. Where it cannot be decoded all of it counts as code.
func codeSize(text []byte) uint64 {
	for off := 0; off < len(text); {
		if padding(text[off:]) == uint64(len(text)-off) {
			return uint64(off)
		}
		in, err := amd64.Decode(text[off:], address.Addr(off))
		if err != nil {
			break
		}
		off += in.Len
	}
	return uint64(len(text))
}

// next returns the first known start of a function above v.
func (im *Image) next(v address.Vaddr) (address.Vaddr, bool) {
	all := im.starts()
	i, found := slices.BinarySearch(all, v)
	if found {
		i++
	}
	if i == len(all) {
		return 0, false
	}
	return all[i], true
}

// frameSize returns the size of the FDE that starts at v, or 0.
func frameSize(f *binfile.File, v address.Vaddr) uint64 {
	frames, _ := f.Frames()
	i, found := slices.BinarySearchFunc(frames, v, func(r binfile.Range, v address.Vaddr) int {
		return int(min(max(int64(r.Start-v), -1), 1))
	})
	if !found {
		return 0
	}
	return frames[i].Size
}

// padding returns how many bytes at the start of b are what compilers and
// assemblers put between functions: int3, zero, and the one- and multi-byte
// nops (Intel SDM vol. 2B, NOP), with any number of 66 and one cs prefix.
func padding(b []byte) uint64 {
	n := 0
	for n < len(b) {
		l := paddingUnit(b[n:])
		if l == 0 {
			break
		}
		n += l
	}
	return uint64(n)
}

func paddingUnit(b []byte) int {
	if b[0] == 0xcc || b[0] == 0 {
		return 1
	}
	i := 0
	for i < len(b) && i < 12 && (b[i] == 0x66 || b[i] == 0x2e) {
		i++
	}
	rest := b[i:]
	switch {
	case len(rest) >= 1 && rest[0] == 0x90: // nop
		return i + 1
	case len(rest) >= 3 && rest[0] == 0x0f && rest[1] == 0x1f: // nopw, nopl
		if l := 2 + operandLength(rest[2:]); l <= len(rest) {
			return i + l
		}
	}
	return 0
}

// operandLength is the length of a ModRM byte and what follows it, for the
// forms assemblers use in nops.
func operandLength(b []byte) int {
	n := 1
	mod, rm := b[0]>>6, b[0]&7
	if mod == 3 {
		return n
	}
	if rm == 4 {
		n++ // SIB
	}
	switch mod {
	case 1:
		n++
	case 2:
		n += 4
	}
	return n
}
