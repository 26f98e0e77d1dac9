package binfile

import (
	"debug/elf"
	"encoding/binary"
	"errors"

	"github.com/patch-integration-engine/pie/internal/address"
)

// ErrNoModuleData says that the start of the Go text, to which .gopclntab is
// relative, could not be established.
var ErrNoModuleData = errors.New("the start of the Go code is not known (no runtime.moduledata)")

// Words of runtime.moduledata (runtime/symtab.go, unchanged from Go 1.18 to 1.26):
// pcHeader, six slices, findfunctab, minpc, maxpc, text.
const (
	mdMinPC = 20
	mdMaxPC = 21
	mdText  = 22
	mdWords = 23
)

// goText finds runtime.text. The header's third word held it until Go 1.25;
// 1.26 leaves it 0, and in a position-independent file it was a relocation.
// So runtime.moduledata is looked for: a structure in writable or relocated
// data whose first word points to the table. It is believed only when its
// minpc and maxpc are the first and the last entry of the table.
func (f *File) goText(t *pclntab) (address.Vaddr, error) {
	if v := address.Vaddr(le.Uint64(t.b[8+8*2:])); v != 0 && f.IsCode(v) {
		return v, nil
	}
	if v, ok := f.goTextFromData(t); ok {
		return v, nil
	}
	if v, ok := f.goTextFromRelocs(t); ok {
		return v, nil
	}
	return 0, ErrNoModuleData
}

func (t *pclntab) agrees(text, minPC, maxPC uint64) bool {
	first, _ := t.entry(0)
	last, _ := t.entry(t.nfunc)
	return minPC == text+first && maxPC == text+last
}

// goTextFromData looks for moduledata with its pointers in place.
func (f *File) goTextFromData(t *pclntab) (address.Vaddr, bool) {
	want := binary.LittleEndian.AppendUint64(nil, uint64(t.at))
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD || s.Flags&elf.PF_W == 0 {
			continue
		}
		b, err := f.segmentBytes("data segment", s.Vaddr, s.Filesz)
		if err != nil {
			continue
		}
		for i := 0; i+8*mdWords <= len(b); i += 8 {
			if string(b[i:i+8]) != string(want) {
				continue
			}
			word := func(n int) uint64 { return le.Uint64(b[i+8*n:]) }
			if t.agrees(word(mdText), word(mdMinPC), word(mdMaxPC)) {
				return address.Vaddr(word(mdText)), true
			}
		}
	}
	return 0, false
}

// goTextFromRelocs looks for moduledata whose pointers are relative
// relocations: the addends are the link-time values.
func (f *File) goTextFromRelocs(t *pclntab) (address.Vaddr, bool) {
	relocs, err := f.Relocs()
	if err != nil {
		return 0, false
	}
	const most = 16
	var at []address.Vaddr // what points to the table
	for _, r := range relocs {
		if r.Type == elf.R_X86_64_RELATIVE && uint64(r.Addend) == uint64(t.at) && len(at) < most {
			at = append(at, r.At)
		}
	}
	for _, md := range at {
		var word [mdWords]uint64
		for _, r := range relocs {
			if r.Type == elf.R_X86_64_RELATIVE && r.At >= md && uint64(r.At-md) < 8*mdWords && uint64(r.At-md)%8 == 0 {
				word[uint64(r.At-md)/8] = uint64(r.Addend)
			}
		}
		if t.agrees(word[mdText], word[mdMinPC], word[mdMaxPC]) {
			return address.Vaddr(word[mdText]), true
		}
	}
	return 0, false
}
