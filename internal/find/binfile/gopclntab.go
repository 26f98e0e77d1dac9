package binfile

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Magic numbers of .gopclntab, by the Go release that introduced the format
// (internal/abi/symtab.go of the Go source).
const (
	goMagic118 = 0xfffffff0
	goMagic120 = 0xfffffff1
)

// maxGoFuncs bounds the functions of one table.
const maxGoFuncs = 2 << 20

// GoTable is .gopclntab: the functions of a Go program, which are there also
// when it was linked with -s -w.
type GoTable struct {
	Funcs []GoFunc // by Entry, ascending
}

// GoFunc is one function of a GoTable.
type GoFunc struct {
	Name  string
	Entry address.Vaddr
	Size  uint64 // bytes of code, without padding
	// Assembly is set for functions written in assembly, whose arguments are on
	// the stack (ABI0).
	Assembly bool
	// C is set for C functions that cgo linked in. They follow the C ABI.
	C bool
}

// At returns the function that starts at v, or nil.
func (t *GoTable) At(v address.Vaddr) *GoFunc {
	i, ok := slices.BinarySearchFunc(t.Funcs, v, func(g GoFunc, v address.Vaddr) int { return cmp.Compare(g.Entry, v) })
	if !ok {
		return nil
	}
	return &t.Funcs[i]
}

// ErrGoFormat says that a Go program's function table is of a Go release before
// 1.18, or of one that is too new. Such a program must not be taken for one in
// C: its arguments are elsewhere.
var ErrGoFormat = errors.New("a Go program of a release whose function table is not known (Go 1.18 to 1.26 are)")

// GoTable returns the function table of a Go program, ErrGoFormat, or ErrNoTable
// for a program that is not Go.
func (f *File) GoTable() (*GoTable, error) { return f.goFuncs() }

// pclntab is a table being read. Its layout is runtime.pcHeader, then the
// parts that it gives the offsets of (runtime/symtab.go).
type pclntab struct {
	b                   []byte
	at                  address.Vaddr
	magic               uint32
	quantum             uint64 // bytes of the shortest instruction
	nfunc               uint64
	text                address.Vaddr // what entries are relative to
	names, pctab, funcs []byte
}

func (f *File) readGoTable() (*GoTable, error) {
	candidates, named := f.goTableCandidates()
	for _, c := range candidates {
		b, err := f.segmentBytes(".gopclntab", c.Start, c.Size)
		if err != nil {
			return nil, err
		}
		t, ok := parsePCHeader(b, c.Start)
		if !ok {
			continue
		}
		if t.text, err = f.goText(t); err != nil {
			return nil, err
		}
		return f.goTable(t)
	}
	if named {
		return nil, ErrGoFormat
	}
	return nil, fmt.Errorf(".gopclntab: %w", ErrNoTable)
}

// goTableCandidates returns where the table may start: where its section says
// (named) or, without section headers, at each magic number in a segment.
func (f *File) goTableCandidates() (at []Range, named bool) {
	for i := range f.sections {
		s := &f.sections[i]
		if s.name == ".gopclntab" || s.name == ".data.rel.ro.gopclntab" {
			return []Range{{s.addr, s.size}}, true
		}
	}
	if len(f.sections) > 0 {
		return nil, false
	}
	const most = 8 // each is read whole
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD {
			continue
		}
		b, err := f.segmentBytes("segment", s.Vaddr, s.Filesz)
		if err != nil {
			continue
		}
		for i := 0; i+8 <= len(b) && len(at) < most; i += 8 {
			if isGoMagic(le.Uint32(b[i:])) && b[i+4] == 0 && b[i+5] == 0 && b[i+6] == 1 && b[i+7] == 8 {
				at = append(at, Range{s.Vaddr + address.Vaddr(i), uint64(len(b) - i)})
			}
		}
	}
	return at, false
}

func isGoMagic(m uint32) bool { return m == goMagic118 || m == goMagic120 }

// parsePCHeader reads runtime.pcHeader: magic u32, two zero bytes, minimum
// instruction length, pointer size, then words.
func parsePCHeader(b []byte, at address.Vaddr) (*pclntab, bool) {
	const words = 8
	if len(b) < 8+8*words {
		return nil, false
	}
	t := &pclntab{b: b, at: at, magic: le.Uint32(b)}
	if !isGoMagic(t.magic) || b[4] != 0 || b[5] != 0 || b[6] != 1 && b[6] != 4 || b[7] != 8 { // arm64 instructions are 4 bytes
		return nil, false
	}
	t.quantum = uint64(b[6])
	word := func(i int) uint64 { return le.Uint64(b[8+8*i:]) }
	part := func(i int) []byte { return b[min(word(i), uint64(len(b))):] }
	t.nfunc = word(0)
	// nfunc nfiles textStart names cu files pctab funcs
	t.names, t.pctab, t.funcs = part(3), part(6), part(7)
	if t.nfunc == 0 || t.nfunc > maxGoFuncs || uint64(len(t.funcs)) < goEntrySize*(t.nfunc+1) {
		return nil, false
	}
	return t, true
}

// goEntrySize is the size of a functab entry: the function's entry relative to
// text, and the offset of its record, u32 each.
const goEntrySize = 8

// entry returns function i's start, relative to text, and its record's offset.
// Entry nfunc is the end of the last function.
func (t *pclntab) entry(i uint64) (start, record uint64) {
	b := t.funcs[i*goEntrySize:]
	return uint64(le.Uint32(b)), uint64(le.Uint32(b[4:]))
}

func (f *File) goTable(t *pclntab) (*GoTable, error) {
	out := &GoTable{Funcs: make([]GoFunc, 0, t.nfunc)}
	last := uint64(0)
	for i := range t.nfunc {
		start, record := t.entry(i)
		end, _ := t.entry(i + 1)
		if start < last || end < start || record > uint64(len(t.funcs)) {
			return nil, malformed(".gopclntab", uint64(t.at), "function %d of %d is out of order", i, t.nfunc)
		}
		last = start
		g := GoFunc{Entry: t.text + address.Vaddr(start), Size: end - start}
		if !f.IsCode(g.Entry) {
			return nil, malformed(".gopclntab", uint64(t.at), "function %d at %v is not code", i, g.Entry)
		}
		t.describe(&g, t.funcs[record:])
		out.Funcs = append(out.Funcs, g)
	}
	return out, nil
}

// describe reads a runtime._func: u32 entry, i32 name, args, u32 deferreturn,
// pcsp, pcfile, pcln, npcdata, cuOffset, since 1.20 startLine, then u8 funcID
// and flag.
func (t *pclntab) describe(g *GoFunc, record []byte) {
	flag := 4*9 + 1
	if t.magic == goMagic120 {
		flag += 4
	}
	if len(record) <= flag {
		return
	}
	const flagAsm = 4 // abi.FuncFlagAsm
	g.Name = cString(t.names, uint64(le.Uint32(record[4:])))
	g.C = !strings.Contains(g.Name, ".") // a Go name has its package before a dot
	g.Assembly = !g.C && record[flag]&flagAsm != 0
	if size := t.pcEnd(uint64(le.Uint32(record[16:]))); size > 0 && size < g.Size {
		g.Size = size
	}
}

// pcEnd returns how far the pc-value table at off reaches, which is the end of
// the function's code: pairs of varints, the value's delta (0 ends the table,
// except at its start) and the pc's delta in instructions of the least length.
func (t *pclntab) pcEnd(off uint64) uint64 {
	if off == 0 || off >= uint64(len(t.pctab)) {
		return 0
	}
	b := t.pctab[off:]
	const most = 1 << 20
	pc := uint64(0)
	for i := range most {
		delta, n := binary.Uvarint(b)
		if n <= 0 || n > 5 {
			return 0
		}
		if delta == 0 && i > 0 {
			return pc
		}
		d, m := binary.Uvarint(b[n:])
		if m <= 0 || m > 5 {
			return 0
		}
		pc += d * t.quantum
		b = b[n+m:]
	}
	return 0
}
