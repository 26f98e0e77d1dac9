package autopsy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// note is one record of a note segment.
func note(kind uint32, desc []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 5)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(b, "CORE\x00\x00\x00\x00"...)
	return append(b, append(desc, make([]byte, -len(desc)&3)...)...)
}

// smallCore is a core of one thread at pc, with 16 bytes of memory at 0x1000 and a
// stack at 0x7000.
func smallCore() []byte {
	le := binary.LittleEndian
	status, info := make([]byte, statusSize), make([]byte, 136)
	le.PutUint32(status[statusPid:], 42)
	le.PutUint64(status[regRIP:], 0x1004)
	le.PutUint64(status[regRSP:], 0x7008)
	le.PutUint32(info[infoPid:], 42)
	copy(info[infoName:], "small")
	file := make([]byte, 40)
	le.PutUint64(file, 1)
	le.PutUint64(file[8:], 4096)
	le.PutUint64(file[16:], 0x1000)
	le.PutUint64(file[24:], 0x2000)
	le.PutUint64(file[32:], 3)
	file = append(file, "/bin/small\x00"...)
	notes := append(append(note(noteStatus, status), note(noteInfo, info)...), note(noteFile, file)...)

	h := make([]byte, 64+3*56)
	copy(h, "\x7fELF\x02\x01\x01")
	le.PutUint16(h[16:], 4)
	le.PutUint16(h[18:], 62)
	le.PutUint64(h[32:], 64)
	le.PutUint16(h[54:], 56)
	le.PutUint16(h[56:], 3)
	segment := func(i int, kind, flags uint32, off, addr, filesz, memsz uint64) {
		p := h[64+56*i:]
		le.PutUint32(p, kind)
		le.PutUint32(p[4:], flags)
		le.PutUint64(p[8:], off)
		le.PutUint64(p[16:], addr)
		le.PutUint64(p[32:], filesz)
		le.PutUint64(p[40:], memsz)
	}
	at := uint64(len(h))
	segment(0, 4, 0, at, 0, uint64(len(notes)), 0)
	segment(1, 1, 5, at+uint64(len(notes)), 0x1000, 16, 0x1000)
	segment(2, 1, 6, at+uint64(len(notes)), 0x7000, 16, 0x1000)
	return append(append(h, notes...), "sixteen bytes ..."...)
}

func TestReadSmallCore(t *testing.T) {
	c, err := Read(bytes.NewReader(smallCore()))
	if err != nil {
		t.Fatal(err)
	}
	if c.Pid() != 42 || c.Name() != "small" || len(c.Threads()) != 1 || c.Threads()[0] != (Thread{Tid: 42, PC: 0x1004, SP: 0x7008}) {
		t.Errorf("%+v", c)
	}
	maps, _ := c.Maps()
	if len(maps) != 2 || maps[0].Path != "/bin/small" || maps[0].Offset != 3*4096 || maps[1].Path != "[stack]" {
		t.Errorf("%v", maps)
	}
	b := make([]byte, 7)
	if n, err := c.ReadAt(b, 0x1000); n != 7 || err != nil || string(b) != "sixteen" {
		t.Errorf("%q, %v", b[:n], err)
	}
	if n, err := c.ReadAt(make([]byte, 32), 0x1000); n != 16 || err == nil {
		t.Errorf("memory that was not dumped: %d bytes, %v", n, err)
	}
	found, err := Judge(c, c.Threads())
	if err != nil || len(found) != 1 || found[0].Verdict != Without {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestWhatIsNoCore(t *testing.T) {
	executable := smallCore()
	executable[16] = 3
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte(strings.Repeat("no core ", 20)), "an executable": executable,
		"compressed": append([]byte("\x28\xb5\x2f\xfd"), make([]byte, 100)...), "cut short": smallCore()[:200],
	} {
		if _, err := Read(bytes.NewReader(b)); !errors.Is(err, ErrNotCore) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(smallCore())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		maps, _ := c.Maps()
		for _, m := range maps {
			_, _ = c.ReadAt(make([]byte, 64), m.Start)
		}
		_, _ = Judge(c, c.Threads())
	})
}
