package fingerprint

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// change is bytes put over those of a program.
type change struct {
	at   uint32
	with []byte
}

// hostileChanges are what makes a real program lie of itself: sections and segments of
// 4 GiB, FDEs that overlap, CFI that refers to itself, data that is called code.
func hostileChanges(t testing.TB, file []byte) map[string]change {
	t.Helper()
	e, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	word := func(v uint32) []byte { return le.AppendUint32(nil, v) }
	long := func(v uint64) []byte { return le.AppendUint64(nil, v) }
	out := map[string]change{}
	shoff, phoff := uint32(le.Uint64(file[40:])), uint32(le.Uint64(file[32:]))
	for i, s := range e.Sections {
		switch s.Name {
		case ".text", ".eh_frame", ".eh_frame_hdr", ".dynsym", ".rela.plt", ".rela.dyn", ".note.gnu.build-id":
			h := shoff + 64*uint32(i)
			out["4 GiB of "+s.Name] = change{h + 32, long(4 << 30)}
			out["4 GiB less a byte of "+s.Name] = change{h + 32, long(4<<30 - 1)}
			out[s.Name+" far outside"] = change{h + 24, long(1 << 62)}
		}
	}
	for i, p := range e.Progs {
		h := phoff + 56*uint32(i)
		if p.Type != elf.PT_LOAD && p.Type != elf.PT_DYNAMIC && p.Type != elf.PT_GNU_EH_FRAME {
			continue
		}
		name := p.Type.String() + " " + p.Flags.String()
		out["4 GiB in the file: "+name] = change{h + 32, long(4 << 30)}
		out["4 GiB in memory: "+name] = change{h + 40, long(4 << 30)}
		out["code that is data: "+name] = change{h + 4, word(uint32(elf.PF_R | elf.PF_X))}
		out["no code: "+name] = change{h + 4, word(uint32(elf.PF_R | elf.PF_W))}
	}
	frames := e.Section(".eh_frame")
	first := uint32(frames.Offset)
	cie := 4 + le.Uint32(file[first:])
	fde := first + cie
	out["an FDE that is its own CIE"] = change{fde + 4, word(4)}
	out["an FDE whose CIE is behind it"] = change{fde + 4, word(uint32(0xffffff00))}
	out["a CIE that is an FDE of itself"] = change{first + 4, word(4)}
	out["an entry of 4 GiB"] = change{fde, word(0xfffffff0)}
	out["an entry of 64 bits, of all that is"] = change{fde, append(word(0xffffffff), long(1<<63)...)}
	out["entries that lead to themselves"] = change{fde, word(0)}
	for k, at := 0, fde; k < 4; k++ {
		size := le.Uint32(file[at:])
		if size == 0 {
			break
		}
		out["overlapping FDEs, from "+string('a'+rune(k))] = change{at + 12, word(0x7fffffff)}
		at += 4 + size
	}
	header := e.Section(".eh_frame_hdr")
	out["a table that is itself"] = change{uint32(header.Offset) + 4, word(0xfffffffc)}
	out["a table of 4 G entries"] = change{uint32(header.Offset) + 8, word(0xffffffff)}
	return out
}

// TestHostileChanges holds that a real program that was made to lie ends in an error or an
// answer, soon; never AUTO at another place than that of the function.
func TestHostileChanges(t *testing.T) {
	p := build(t, "-O2")
	fp := create(t, "parse_line", p.build("parse_line", false))
	file := strippedShop(t)
	for name, c := range hostileChanges(t, file) {
		b := slices.Clone(file)
		copy(b[c.at:], c.with)
		began := time.Now()
		e, err := binfile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			continue
		}
		m, err := Analyze(e)
		if err != nil {
			continue
		}
		if f := m.Find(fp); f.Tier == Auto && f.At != p.at("parse_line") {
			t.Errorf("%s: AUTO at %v", name, f.At)
		}
		Diff(m, p.Module)
		if took := time.Since(began); took > hostileTime {
			t.Errorf("%s: took %v", name, took)
		}
	}
}
