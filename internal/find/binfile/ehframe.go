package binfile

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Frames returns the code ranges that .eh_frame describes, sorted and without
// duplicates: the functions of a stripped C or C++ file, their .cold parts
// each on its own, and PLT sections. ErrNoTable when there is none.
func (f *File) Frames() ([]Range, error) { return f.frames() }

func (f *File) readFrames() ([]Range, error) {
	at, size, err := f.ehFrame()
	if err != nil {
		return nil, err
	}
	table, err := f.segmentBytes(".eh_frame", at, size)
	if err != nil {
		return nil, err
	}
	const usual = 36 // bytes of a record
	p := frameParser{table: table, at: at, cies: map[int]byte{}, out: make([]Range, 0, len(table)/usual)}
	if err := p.run(); err != nil {
		return nil, err
	}
	slices.SortFunc(p.out, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Size, b.Size))
	})
	return slices.Compact(p.out), nil
}

// ehFrame returns where .eh_frame is, by PT_GNU_EH_FRAME, whose second field
// points to it, or by section.
func (f *File) ehFrame() (address.Vaddr, uint64, error) {
	if s := f.section(".eh_frame"); s != nil && s.typ != elf.SHT_NOBITS && s.addr != 0 {
		return s.addr, s.size, nil
	}
	for _, s := range f.Segments {
		if s.Type != elf.PT_GNU_EH_FRAME {
			continue
		}
		h, err := f.segmentBytes(".eh_frame_hdr", s.Vaddr, 16)
		if err != nil {
			return 0, 0, err
		}
		c := cursor{b: h, at: uint64(s.Vaddr)}
		if version := c.u8(); version != 1 {
			return 0, 0, malformed(".eh_frame_hdr", uint64(s.Vaddr), "version %d", version)
		}
		enc := c.u8()
		c.skip(2)
		v := c.pointer(enc)
		if c.bad != nil {
			return 0, 0, c.bad
		}
		return address.Vaddr(v), f.Mapped(address.Vaddr(v)), nil
	}
	return 0, 0, fmt.Errorf(".eh_frame: %w", ErrNoTable)
}

// frameParser walks the records of .eh_frame once, from start to end.
type frameParser struct {
	table []byte
	at    address.Vaddr
	cies  map[int]byte // offset of a CIE to its FDE pointer encoding
	out   []Range
}

func (p *frameParser) run() error {
	for off := 0; off+4 <= len(p.table); {
		n, head := uint64(le.Uint32(p.table[off:])), 4
		if n == 0 {
			return nil
		}
		if n == 0xffffffff {
			if off+12 > len(p.table) {
				return nil
			}
			n, head = le.Uint64(p.table[off+4:]), 12
		}
		body := off + head
		if n < 4 || n > uint64(len(p.table)-body) {
			return malformed(".eh_frame", uint64(p.at)+uint64(off), "a record of %d bytes", n)
		}
		end := body + int(n)
		if id := le.Uint32(p.table[body:]); id != 0 {
			if err := p.fde(body, end, int64(id)); err != nil {
				return err
			}
		}
		off = end
	}
	return nil
}

// fde reads the range of the FDE whose id field is at body: its CIE lies id
// bytes before that field.
func (p *frameParser) fde(body, end int, id int64) error {
	cieOff := int64(body) - id
	if cieOff < 0 {
		return malformed(".eh_frame", uint64(p.at)+uint64(body), "a CIE before the section")
	}
	enc, ok := p.cies[int(cieOff)]
	if !ok {
		var err error
		if enc, err = p.cie(int(cieOff)); err != nil {
			return err
		}
		p.cies[int(cieOff)] = enc
	}
	c := cursor{b: p.table[body+4 : end], at: uint64(p.at) + uint64(body) + 4}
	start := c.pointer(enc)
	size := c.pointer(enc & 0x0f) // a length: same format, relative to nothing
	if c.bad != nil {
		return c.bad
	}
	if start != 0 && size != 0 && size < 1<<40 {
		p.out = append(p.out, Range{address.Vaddr(start), size})
	}
	return nil
}

// cie returns the encoding of pointers in the FDEs of a CIE: the 'R' of its
// augmentation, else absolute.
func (p *frameParser) cie(off int) (byte, error) {
	at := uint64(p.at) + uint64(off)
	c := cursor{b: p.table[off:], at: at}
	if n := c.u32(); n == 0xffffffff {
		c.skip(8)
	}
	if id := c.u32(); id != 0 {
		return 0, malformed(".eh_frame", at, "an FDE points to what is not a CIE")
	}
	version := c.u8()
	aug := c.cstring(16)
	if version == 4 {
		c.skip(2) // address size, segment size
	}
	c.uleb() // code alignment
	c.sleb() // data alignment
	if version == 1 {
		c.u8()
	} else {
		c.uleb() // return address register
	}
	enc := byte(peAbs)
	for i, a := range aug {
		switch {
		case i == 0 && a != 'z':
			return 0, malformed(".eh_frame", at, "augmentation %q", aug)
		case i == 0:
			c.uleb()
		case a == 'R':
			enc = c.u8()
		case a == 'L':
			c.u8()
		case a == 'P':
			c.pointer(c.u8() & 0x7f)
		}
	}
	return enc, c.bad
}
