package binfile

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Magic numbers of .gopclntab, by the Go release that introduced the format
// (internal/abi/symtab.go of the Go source).
const (
	goMagic116 = 0xfffffffa
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

// GoTable returns the function table of a Go program (Go 1.16 and later), or
// ErrNoTable for a program that is not Go.
func (f *File) GoTable() (*GoTable, error) { return f.goFuncs() }

// pclntab is a table being read. Its layout is runtime.pcHeader, then the
// parts that it gives the offsets of (runtime/symtab.go).
type pclntab struct {
	b     []byte
	at    address.Vaddr
	magic uint32
	nfunc uint64
	// text is what entries are relative to; absolute since before 1.18.
	text                address.Vaddr
	names, pctab, funcs []byte
}

func (f *File) readGoTable() (*GoTable, error) {
	for _, c := range f.goTableCandidates() {
		b, err := f.segmentBytes(".gopclntab", c.Start, c.Size)
		if err != nil {
			return nil, err
		}
		t, ok := parsePCHeader(b, c.Start)
		if !ok {
			continue
		}
		if t.magic != goMagic116 {
			if t.text, err = f.goText(t); err != nil {
				return nil, err
			}
		}
		return f.goTable(t)
	}
	return nil, fmt.Errorf(".gopclntab: %w", ErrNoTable)
}

// goTableCandidates returns where the table may start: where its section says
// or, without section headers, at each magic number in a segment.
func (f *File) goTableCandidates() []Range {
	for i := range f.sections {
		s := &f.sections[i]
		if s.name == ".gopclntab" || s.name == ".data.rel.ro.gopclntab" {
			return []Range{{s.addr, s.size}}
		}
	}
	if len(f.sections) > 0 {
		return nil
	}
	const most = 64
	var out []Range
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD {
			continue
		}
		b, err := f.segmentBytes("segment", s.Vaddr, s.Filesz)
		if err != nil {
			continue
		}
		for i := 0; i+8 <= len(b) && len(out) < most; i += 8 {
			if isGoMagic(le.Uint32(b[i:])) && b[i+4] == 0 && b[i+5] == 0 && b[i+6] == 1 && b[i+7] == 8 {
				out = append(out, Range{s.Vaddr + address.Vaddr(i), uint64(len(b) - i)})
			}
		}
	}
	return out
}

func isGoMagic(m uint32) bool { return m == goMagic116 || m == goMagic118 || m == goMagic120 }

// parsePCHeader reads runtime.pcHeader: magic u32, two zero bytes, minimum
// instruction length, pointer size, then words.
func parsePCHeader(b []byte, at address.Vaddr) (*pclntab, bool) {
	const words = 8
	if len(b) < 8+8*words {
		return nil, false
	}
	t := &pclntab{b: b, at: at, magic: le.Uint32(b)}
	if !isGoMagic(t.magic) || b[4] != 0 || b[5] != 0 || b[6] != 1 || b[7] != 8 {
		return nil, false
	}
	word := func(i int) uint64 { return le.Uint64(b[8+8*i:]) }
	part := func(i int) []byte { return b[min(word(i), uint64(len(b))):] }
	t.nfunc = word(0)
	// 1.16: nfunc nfiles names cu files pctab funcs; 1.18 puts textStart third.
	first := 3
	if t.magic == goMagic116 {
		first = 2
	}
	t.names, t.pctab, t.funcs = part(first), part(first+3), part(first+4)
	if t.nfunc == 0 || t.nfunc > maxGoFuncs || uint64(len(t.funcs)) < t.entrySize()*(t.nfunc+1) {
		return nil, false
	}
	return t, true
}

// entrySize is the size of a functab entry: entry and offset of the function's
// record, two words before 1.18 and two u32 since.
func (t *pclntab) entrySize() uint64 {
	if t.magic == goMagic116 {
		return 16
	}
	return 8
}

// entry returns function i's start, relative to text, and its record's offset.
// Entry nfunc is the end of the last function.
func (t *pclntab) entry(i uint64) (start, record uint64) {
	b := t.funcs[i*t.entrySize():]
	if t.magic == goMagic116 {
		return le.Uint64(b), le.Uint64(b[8:])
	}
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

// describe reads a runtime._func: entry (a word before 1.18, else u32), then
// i32 name, args, u32 deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset, since
// 1.20 startLine, then u8 funcID and, since 1.17, flag.
func (t *pclntab) describe(g *GoFunc, record []byte) {
	word, flag := 4, 4*9+1
	switch t.magic {
	case goMagic116:
		word, flag = 8, 8+4*8+1
	case goMagic120:
		flag += 4
	}
	if len(record) <= flag {
		return
	}
	const flagAsm = 4 // abi.FuncFlagAsm
	g.Name = cString(t.names, uint64(le.Uint32(record[word:])))
	g.C = !strings.Contains(g.Name, ".") // a Go name has its package before a dot
	g.Assembly = !g.C && t.magic != goMagic116 && record[flag]&flagAsm != 0
	if size := t.pcEnd(uint64(le.Uint32(record[word+12:]))); size > 0 && size < g.Size {
		g.Size = size
	}
}

// pcEnd returns how far the pc-value table at off reaches, which is the end of
// the function's code: pairs of varints, the value's delta (0 ends the table,
// except at its start) and the pc's delta.
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
		pc += d
		b = b[n+m:]
	}
	return 0
}
