package debuginfo

import (
	"encoding/binary"
	"errors"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
)

// Function is what the debug information of a file says about one function of it.
type Function struct {
	info *Info
	file *binfile.File
	at   address.Vaddr
	// alone: info is the function's compilation unit and nothing else.
	alone bool
}

// At reads the debug information about the function that starts at v; ErrNone when the
// file has none. Where .debug_aranges names the function's compilation unit, and that
// refers to no other one, nothing else of .debug_info is read: in a large program a
// hundredth of it.
func At(f *binfile.File, v address.Vaddr) (*Function, error) {
	if i := openUnit(f, v); i != nil {
		return &Function{i, f, v, true}, nil
	}
	i, err := Open(f)
	if err != nil {
		return nil, err
	}
	return &Function{i, f, v, false}, nil
}

// Params is (*Info).Params of the function.
func (fn *Function) Params() ([]Param, error) { return fn.info.Params(fn.at) }

// GoResults is (*Info).GoResults of the function.
func (fn *Function) GoResults() ([]Param, error) { return fn.info.GoResults(fn.at) }

// Result is (*Info).Result of the function.
func (fn *Function) Result() (Type, error) { return fn.info.Result(fn.at) }

// Inlined is (*Info).Inlined of the function.
func (fn *Function) Inlined() ([]Copy, error) { return fn.info.Inlined(fn.at) }

// CheckMirror is (*Info).CheckMirror of the function.
func (fn *Function) CheckMirror(m compile.Mirror) error {
	err := fn.info.CheckMirror(fn.at, m)
	if !fn.alone || !errors.Is(err, ErrUnknownType) {
		return err
	}
	i, err := Open(fn.file) // another unit may have the whole of it
	if err != nil {
		return err
	}
	fn.info, fn.alone = i, false
	return i.CheckMirror(fn.at, m)
}

// openUnit reads the unit of the code at v by itself, or returns nil where that cannot be.
func openUnit(f *binfile.File, v address.Vaddr) *Info {
	aranges, err := f.DebugSection(".debug_aranges", maxSection)
	if err != nil {
		return nil
	}
	off, ok := unitOf(aranges, v)
	if !ok {
		return nil
	}
	unit, err := readUnit(f, off)
	if err != nil {
		return nil
	}
	abbrev, err := f.DebugSection(".debug_abbrev", maxSection)
	if err != nil || !standsAlone(unit, abbrev) {
		return nil
	}
	i, err := openWith(f, abbrev, unit, maxAll-uint64(len(abbrev)+len(unit)))
	if err != nil {
		return nil
	}
	return i
}

var errNoUnit = errors.New("no unit that can be read by itself")

const longLength = 0xfffffff0 // from here on a length is no length of the 32-bit format (DWARF 5, 7.4)

// readUnit reads one unit of .debug_info in the 32-bit format, its length included.
func readUnit(f *binfile.File, off uint64) ([]byte, error) {
	head, err := f.DebugPart(".debug_info", off, 4)
	if err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head)
	if n >= longLength || n > maxSection {
		return nil, errNoUnit
	}
	return f.DebugPart(".debug_info", off, 4+uint64(n))
}

// unitOf looks an address up in .debug_aranges (DWARF 5, 6.1.2) and returns where its unit
// begins in .debug_info.
func unitOf(aranges []byte, v address.Vaddr) (off uint64, ok bool) {
	const head, pair = 12, 16 // of a set; the pairs are aligned to their own size
	for len(aranges) >= head {
		n := binary.LittleEndian.Uint32(aranges)
		if n >= longLength || uint64(n)+4 > uint64(len(aranges)) || n+4 < head {
			return 0, false
		}
		set := aranges[:n+4]
		aranges = aranges[n+4:]
		version, addressSize, segmentSize := binary.LittleEndian.Uint16(set[4:]), set[10], set[11]
		if version != 2 || addressSize != 8 || segmentSize != 0 {
			return 0, false
		}
		off = uint64(binary.LittleEndian.Uint32(set[6:]))
		for at := pair; at+pair <= len(set); at += pair {
			start, size := binary.LittleEndian.Uint64(set[at:]), binary.LittleEndian.Uint64(set[at+8:])
			if uint64(v) >= start && uint64(v)-start < size {
				return off, true
			}
		}
	}
	return 0, false
}

// Forms by which an entry may refer out of its unit, or whose meaning an abbreviation does
// not tell (DWARF 5, 7.5.6).
const (
	formRefAddr       = 0x10
	formIndirect      = 0x16
	formRefSup4       = 0x1c
	formRefSig8       = 0x20
	formImplicitConst = 0x21
	formRefSup8       = 0x24
	formGNURefAlt     = 0x1f20
)

// standsAlone tells whether a unit is an ordinary one none of whose abbreviations lets an
// entry refer to another unit.
func standsAlone(unit, abbrev []byte) bool {
	const head, typeCompile = 12, 1
	if len(unit) < head {
		return false
	}
	off := uint64(binary.LittleEndian.Uint32(unit[6:]))
	switch version := binary.LittleEndian.Uint16(unit[4:]); {
	case version == 5 && unit[6] == typeCompile:
		off = uint64(binary.LittleEndian.Uint32(unit[8:]))
	case version < 2 || version > 4:
		return false
	}
	if off >= uint64(len(abbrev)) {
		return false
	}
	r := lebReader{abbrev[off:]}
	for {
		code, ok := r.next()
		if !ok || code == 0 {
			return ok
		}
		if _, ok = r.next(); !ok || !r.skip() { // the tag; whether there are children
			return false
		}
		if !r.attributesStayInside() {
			return false
		}
	}
}

// attributesStayInside reads the attributes of one abbreviation.
func (r *lebReader) attributesStayInside() bool {
	for {
		attribute, _ := r.next()
		form, ok := r.next()
		if !ok {
			return false
		}
		switch form {
		case formRefAddr, formIndirect, formRefSup4, formRefSig8, formRefSup8, formGNURefAlt:
			return false
		case formImplicitConst:
			if _, ok := r.next(); !ok {
				return false
			}
		}
		if attribute == 0 && form == 0 {
			return true
		}
	}
}

// lebReader reads LEB128 numbers (DWARF 5, 7.6).
type lebReader struct{ b []byte }

// next returns a number's low 64 bits; ok is false when it is cut off.
func (r *lebReader) next() (v uint64, ok bool) {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		return 0, false
	}
	r.b = r.b[n:]
	return v, true
}

// skip passes over one byte.
func (r *lebReader) skip() bool {
	if len(r.b) == 0 {
		return false
	}
	r.b = r.b[1:]
	return true
}
