package fingerprint

import (
	"debug/elf"
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// Bounds of what is read of one file.
const (
	maxImage  = 256 << 20 // bytes of all segments
	minString = 4         // characters
	maxString = 256
)

// image is the contents of a file's segments, and what its addresses stand
// for.
type image struct {
	machine  machine
	segments []segment
	// names are what the dynamic linker puts at an address: slots of the GOT and
	// copies of variables.
	names map[address.Vaddr]string
	// own are slots that lead to a function of the file itself: what it exports it
	// calls through the PLT, as another file may take its place.
	own     map[address.Vaddr]address.Vaddr
	windows windows
}

func readImage(f *binfile.File) (*image, error) {
	im := &image{machine: machineOf(f.Machine()), names: map[address.Vaddr]string{}, own: map[address.Vaddr]address.Vaddr{}}
	total := uint64(0)
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD || s.Filesz == 0 {
			continue
		}
		if total += s.Filesz; total > maxImage || total < s.Filesz {
			return nil, fmt.Errorf("its segments are more than %d MiB", maxImage>>20)
		}
		if n := f.Mapped(s.Vaddr); n < s.Filesz {
			return nil, fmt.Errorf("the segment at %v has %d bytes, and %d are its own", s.Vaddr, s.Filesz, n)
		}
		if err := f.ReadVaddr(make([]byte, 1), s.Vaddr.Add(int64(s.Filesz-1))); err != nil {
			return nil, err
		}
		im.segments = append(im.segments, segment{at: s.Vaddr, size: s.Filesz, flags: s.Flags, file: f})
	}
	return im, im.readNames(f)
}

func (im *image) readNames(f *binfile.File) error {
	syms, err := f.DynSymbols()
	if err != nil && !errors.Is(err, binfile.ErrNoTable) {
		return err
	}
	err = f.EachReloc(func(r binfile.Reloc) {
		name, slot := im.machine.named(uint32(r.Type))
		if !name || r.Sym == 0 || uint64(r.Sym) >= uint64(len(syms)) {
			return
		}
		s := &syms[r.Sym]
		im.names[r.At] = s.Name
		if slot && s.IsFunc() && !s.IsIndirect() {
			im.own[r.At] = s.Value
		}
	})
	if errors.Is(err, binfile.ErrNoTable) {
		return nil
	}
	return err
}

func (im *image) segment(v address.Vaddr) *segment {
	for i := range im.segments {
		if im.segments[i].contains(v) {
			return &im.segments[i]
		}
	}
	return nil
}

// bytes returns up to n bytes at v.
func (im *image) bytes(v address.Vaddr, n uint64) []byte {
	s := im.segment(v)
	if s == nil {
		return nil
	}
	return s.bytes(v, n)
}

// constant returns the bytes at v when the program cannot change them.
func (im *image) constant(v address.Vaddr, n uint64) []byte {
	s := im.segment(v)
	if s == nil || s.flags&elf.PF_W != 0 {
		return nil
	}
	return s.bytes(v, n)
}

// text returns the C string at v, when what is there is one: constant,
// terminated, printable.
func (im *image) text(v address.Vaddr) []byte {
	b := im.constant(v, maxString+1)
	for i, c := range b {
		switch {
		case c == 0 && i >= minString:
			return b[:i]
		case c >= 0x20 && c < 0x7f, c == '\t', c == '\n', c == '\r', c == 0x1b, c >= 0x80:
		default:
			return nil
		}
	}
	if len(b) > maxString { // a long text: its beginning stands for it
		return b[:maxString]
	}
	return nil
}
