package binfile

import (
	"debug/elf"
	"fmt"
)

// maxNotes bounds one PT_NOTE segment, in bytes.
const maxNotes = 1 << 20

// ntGNUBuildID is NT_GNU_BUILD_ID.
const ntGNUBuildID = 3

// BuildID returns the GNU build ID, or nil when the file has none.
func (f *File) BuildID() []byte {
	for _, s := range f.Segments {
		if s.Type != elf.PT_NOTE || s.Filesz > maxNotes || f.tablesOnly {
			continue
		}
		b, err := f.bytes("PT_NOTE", uint64(s.Off), s.Filesz)
		if err != nil {
			continue
		}
		if id := findNote(b, "GNU\x00", ntGNUBuildID); id != nil {
			return id
		}
	}
	if s := f.section(".note.gnu.build-id"); s != nil && s.size <= maxNotes {
		if b, err := f.sectionBytes(s); err == nil {
			return findNote(b, "GNU\x00", ntGNUBuildID)
		}
	}
	return nil
}

// BuildIDString returns the build ID in hexadecimal, or "".
func (f *File) BuildIDString() string { return fmt.Sprintf("%x", f.BuildID()) }

// findNote returns the descriptor of the first note of an owner and type.
// Name and descriptor are padded to 4 bytes; a segment of 8-byte notes
// (.note.gnu.property) ends the search early at worst, as it holds no build ID.
func findNote(b []byte, owner string, typ uint32) []byte {
	for len(b) >= 12 {
		name, desc, t := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		b = b[12:]
		nameEnd := (name + 3) &^ 3
		if nameEnd > uint64(len(b)) || desc > uint64(len(b))-nameEnd {
			return nil
		}
		if t == typ && string(b[:name]) == owner && desc > 0 {
			return b[nameEnd : nameEnd+desc]
		}
		b = b[min(nameEnd+(desc+3)&^3, uint64(len(b))):]
	}
	return nil
}
