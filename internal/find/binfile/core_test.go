package binfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"
)

// core makes a core file that has the first bytes of one mapped file in memory.
func core(head []byte, path string) []byte {
	note := binary.LittleEndian.AppendUint64(nil, 1)
	note = binary.LittleEndian.AppendUint64(note, 4096)
	for _, n := range []uint64{0x400000, 0x400000 + uint64(len(head)), 0} {
		note = binary.LittleEndian.AppendUint64(note, n)
	}
	note = append(note, path+"\x00"...)
	notes := binary.LittleEndian.AppendUint32(nil, 5)
	notes = binary.LittleEndian.AppendUint32(notes, uint32(len(note)))
	notes = binary.LittleEndian.AppendUint32(notes, ntFile)
	notes = append(append(notes, "CORE\x00\x00\x00\x00"...), note...)

	var b bytes.Buffer
	write := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	at := uint64(headerSize + 2*segmentSize)
	write(elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1,
		Phoff: headerSize, Ehsize: headerSize, Phentsize: segmentSize, Phnum: 2})
	write(elf.Prog64{Type: uint32(elf.PT_NOTE), Off: at, Filesz: uint64(len(notes))})
	write(elf.Prog64{Type: uint32(elf.PT_LOAD), Off: at + uint64(len(notes)), Vaddr: 0x400000, Filesz: uint64(len(head)), Memsz: uint64(len(head))})
	b.Write(notes)
	b.Write(head)
	return b.Bytes()
}

func TestCore(t *testing.T) {
	self, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(self), int64(len(self)))
	if err != nil {
		t.Fatal(err)
	}
	b := core(self[:4096], "/bin/true")
	c, err := OpenCore(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Files) != 1 || c.Files[0].Path != "/bin/true" || c.Files[0].Start != 0x400000 {
		t.Fatalf("files %+v", c.Files)
	}
	if got := c.BuildID(c.Files[0]); f.BuildID() == nil || !bytes.Equal(got, f.BuildID()) {
		t.Errorf("build ID %x, want %x", got, f.BuildID())
	}
	var kind *UnsupportedError
	if _, err := OpenCore(bytes.NewReader(self), int64(len(self))); !errors.As(err, &kind) {
		t.Errorf("a program as a core: %v", err)
	}
	for n := range b { // cut off anywhere
		if c, err := OpenCore(bytes.NewReader(b[:n]), int64(n)); err == nil {
			for _, m := range c.Files {
				c.BuildID(m)
			}
		}
	}
}

// Bounds are the functions of all tables, without their names.
func TestBounds(t *testing.T) {
	b, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	all, err := f.Functions()
	if err != nil {
		t.Fatal(err)
	}
	bounds, err := f.Bounds()
	if err != nil || len(bounds) != len(all) {
		t.Fatalf("%d bounds, %d functions, %v", len(bounds), len(all), err)
	}
	for i, fn := range all {
		if bounds[i] != (Bound{fn.Start, fn.Size, fn.Indirect}) {
			t.Errorf("%+v, want as %+v", bounds[i], fn)
		}
		if got := f.NamesAt(fn.Start); !slices.Equal(got, fn.Names) {
			t.Errorf("%v: names %v, want %v", fn.Start, got, fn.Names)
		}
	}
}

func FuzzCore(f *testing.F) {
	whole := core([]byte("\x7fELF"), "/x")
	f.Add(whole)
	for _, poke := range []struct {
		at    int
		value []byte
	}{
		{56, []byte{0xff, 0xff}},                        // the number of segments is elsewhere
		{32, bytes.Repeat([]byte{0xff}, 8)},             // the segments are
		{64 + 32, []byte{0xff, 0xff, 0xff, 0xff, 0xff}}, // a note of 1 TiB
		{64 + 16, []byte{0, 0, 0, 0, 0, 0, 0, 0x80, 0}}, // half of the address space
	} {
		b := bytes.Clone(whole)
		copy(b[poke.at:], poke.value)
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		c, err := OpenCore(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, m := range c.Files {
			c.BuildID(m)
		}
	})
}
