package fingerprint

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

const (
	hostileCode = 0x1000 // where the code of a hostile program is, in the file and in memory
	// hostileTime and hostileMemory are what no file of a few MiB may take: time on a
	// busy machine, and bytes allocated and not freed.
	hostileTime   = 60 * time.Second
	hostileMemory = 1 << 30
)

// hostileProgram makes an ELF file of code and of FDEs that say where its functions
// are, whatever they say.
func hostileProgram(machine elf.Machine, code []byte, functions []binfile.Range) []byte {
	frames := hostileFrames(hostileCode+uint64(len(code)), functions)
	le := binary.LittleEndian
	b := make([]byte, hostileCode)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_DYN))
	le.PutUint16(b[18:], uint16(machine))
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 3)
	at := hostileCode + uint64(len(code))
	for i, s := range []struct {
		typ              elf.ProgType
		flags            elf.ProgFlag
		at, size, inFile uint64
	}{
		{elf.PT_LOAD, elf.PF_R | elf.PF_X, hostileCode, uint64(len(code)), uint64(len(code))},
		{elf.PT_LOAD, elf.PF_R, at, uint64(len(frames)), uint64(len(frames))},
		{elf.PT_GNU_EH_FRAME, elf.PF_R, at, 16, 16},
	} {
		h := b[64+56*i:]
		le.PutUint32(h, uint32(s.typ))
		le.PutUint32(h[4:], uint32(s.flags))
		le.PutUint64(h[8:], s.at)
		le.PutUint64(h[16:], s.at)
		le.PutUint64(h[32:], s.inFile)
		le.PutUint64(h[40:], s.size)
	}
	return append(append(b, code...), frames...)
}

// hostileFrames is .eh_frame_hdr, which only points behind itself, and .eh_frame at
// an address: a CIE with absolute pointers of 8 bytes, and an FDE a function.
func hostileFrames(at uint64, functions []binfile.Range) []byte {
	le := binary.LittleEndian
	b := append([]byte{1, 4, 0xff, 0xff}, make([]byte, 12)...) // version 1, pointer of 8 bytes
	le.PutUint64(b[4:], at+16)
	cie := []byte{0, 0, 0, 0, 1, 'z', 'R', 0, 1, 1, 16, 1, 4, 0, 0, 0}
	b = append(le.AppendUint32(b, uint32(len(cie))), cie...)
	for _, f := range functions {
		b = le.AppendUint32(b, 4+16+4)
		b = le.AppendUint32(b, uint32(len(b)-16)) // how far back the CIE is
		b = le.AppendUint64(b, uint64(f.Start))
		b = le.AppendUint64(b, f.Size)
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, 0, 0, 0, 0)
}

// every lists functions of a size, step bytes apart.
func every(step, size, n uint64) []binfile.Range {
	out := make([]binfile.Range, n)
	for i := range out {
		out[i].Start, out[i].Size = hostileCode, size
		out[i].Start = out[i].Start.Add(int64(uint64(i) * step))
	}
	return out
}

// TestHostilePrograms holds that files made to hurt end in an error or an answer, in
// bounded time and memory.
func TestHostilePrograms(t *testing.T) {
	p := build(t, "-O2")
	fp := create(t, "parse_line", p.performing("parse_line"), build(t, "-O2", "-DFIXED").build("parse_line", true))
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 4<<20)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	// jumps are conditional jumps to everywhere: every function is a part of others, and
	// has parts, that are parts.
	jumps := make([]byte, 0, 4<<20)
	for len(jumps)+6 <= 4<<20 {
		to := int64(random.IntN(4<<20)) - int64(len(jumps)) - 6
		jumps = binary.LittleEndian.AppendUint32(append(jumps, 0x0f, 0x84), uint32(to))
	}
	calls := bytes.Repeat([]byte{0xe8, 0, 0, 0, 0}, 4<<20/5) // each calls the next instruction
	for name, b := range map[string][]byte{
		"overlapping functions":      hostileProgram(elf.EM_X86_64, noise, every(1, 1<<20, 200_000)),
		"functions without end":      hostileProgram(elf.EM_X86_64, noise, every(64, 1<<39, 60_000)),
		"a function a byte":          hostileProgram(elf.EM_X86_64, noise, every(1, 1, 300_000)),
		"one function":               hostileProgram(elf.EM_X86_64, noise, every(1, 1<<20, 1)),
		"data as code":               hostileProgram(elf.EM_X86_64, noise, every(222, 222, 18_000)),
		"data as code for arm64":     hostileProgram(elf.EM_AARCH64, noise, every(224, 224, 18_000)),
		"zeros as code for arm64":    hostileProgram(elf.EM_AARCH64, make([]byte, 4<<20), every(224, 224, 18_000)),
		"parts of parts":             hostileProgram(elf.EM_X86_64, jumps, every(222, 222, 18_000)),
		"large parts of large parts": hostileProgram(elf.EM_X86_64, jumps, every(64<<10, 64<<10, 64)),
		"calls to everything":        hostileProgram(elf.EM_X86_64, calls, every(5, 5, 300_000)),
		"the same everywhere":        hostileProgram(elf.EM_X86_64, bytes.Repeat([]byte{0x48, 0x8b, 0x47, 0x18, 0x83, 0xc0, 0x30}, 4<<20/7), every(224, 224, 18_000)),
		"functions outside the code": hostileProgram(elf.EM_X86_64, noise[:4096], every(1<<30, 222, 10_000)),
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				e, err := binfile.OpenToRead(bytes.NewReader(b), int64(len(b)))
				if err != nil {
					t.Errorf("not even opened: %v", err)
					return
				}
				m, err := Analyze(e)
				if err != nil {
					return
				}
				if f := m.Find(fp); f.Tier >= Confirm {
					t.Errorf("the function is found in it: %+v", f)
				}
				if m.Machine() == p.Module.Machine() {
					Diff(m, p.Module)
				}
				for i := range min(len(m.funcs), 3) {
					_, _ = Create("x", []Build{{Label: "x", Module: m, At: m.funcs[i].at, Behaviour: true}})
				}
				var now runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&now)
				runtime.KeepAlive(m)
				if now.HeapAlloc > hostileMemory {
					t.Errorf("%d MiB are held", now.HeapAlloc>>20)
				}
			}()
			select {
			case <-done:
			case <-time.After(hostileTime):
				t.Fatalf("not done after %v", hostileTime)
			}
		})
	}
}

// FuzzProgram makes programs of any code and any functions.
func FuzzProgram(f *testing.F) {
	p := build(f, "-O2")
	fp := create(f, "parse_line", p.performing("parse_line"))
	f.Add(false, bytes.Repeat([]byte{0x0f, 0x84, 0x10, 0, 0, 0, 0xe8, 0xf0, 0xff, 0xff, 0xff, 0xc3}, 64), uint16(64), uint16(64), uint16(12))
	f.Add(false, bytes.Repeat([]byte{0xff, 0x25, 0, 0, 0, 0, 0x90}, 64), uint16(1), uint16(400), uint16(400))
	f.Add(true, bytes.Repeat([]byte{0, 0, 0, 0x90, 0, 0x40, 0, 0x91, 0xff, 0xff, 0xff, 0x97, 0, 2, 0x1f, 0xd6}, 64), uint16(64), uint16(64), uint16(16))
	f.Fuzz(func(t *testing.T, arm bool, code []byte, step, size, n uint16) {
		machine := elf.EM_X86_64
		if arm {
			machine = elf.EM_AARCH64
		}
		b := hostileProgram(machine, code, every(uint64(step), uint64(size), uint64(n)))
		e, err := binfile.OpenToRead(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		m, err := Analyze(e)
		if err != nil {
			return
		}
		m.Find(fp)
		Diff(m, m)
		for i := range min(len(m.funcs), 2) {
			if fp, err := Create("x", []Build{{Label: "x", Module: m, At: m.funcs[i].at, Behaviour: n%8 == 0}}); err == nil {
				if _, err := Decode(fp.Encode()); err != nil {
					t.Errorf("what was made of it is not read: %v", err)
				}
			}
		}
	})
}
