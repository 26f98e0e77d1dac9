package compile

import (
	"encoding/binary"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/libpie"
	"github.com/patch-integration-engine/pie/libpie/libpietest"
	"github.com/patch-integration-engine/pie/prepatches"
	strdup "github.com/patch-integration-engine/pie/prepatches/iperf3/cve-2024-53580"
	token "github.com/patch-integration-engine/pie/prepatches/iperf3/cve-2025-54350"
	pubsize "github.com/patch-integration-engine/pie/prepatches/nats-server/cve-2019-13126"
	stsc "github.com/patch-integration-engine/pie/prepatches/nginx/cve-2024-7347"
	selector "github.com/patch-integration-engine/pie/prepatches/redis/cve-2024-31227"
	pattern "github.com/patch-integration-engine/pie/prepatches/redis/cve-2024-31228"
)

// Every prepatch of the catalogue compiles and verifies.
func TestCatalogueCompiles(t *testing.T) {
	guards, err := fs.Glob(prepatches.Files, "*/*/guard.go")
	if err != nil || len(guards) == 0 {
		t.Fatalf("%d prepatches: %v", len(guards), err)
	}
	for _, name := range guards {
		t.Run(path.Dir(name), func(t *testing.T) {
			c := compileCatalogue(t, path.Dir(name))
			if !strings.EqualFold(c.ID, path.Base(path.Dir(name))) {
				t.Errorf("%s is in the folder %s", c.ID, path.Dir(name))
			}
			for _, g := range c.Guards {
				program, err := verify.Verify(g.Unit)
				if err != nil {
					t.Errorf("%v\n%s", err, bpf.Disassemble(g.Unit.Insns))
					continue
				}
				t.Logf("%s: %d instructions, %d bytes of stack, %+v", g.Name, len(g.Unit.Insns), program.Stack(), program.Cost())
				t.Logf("%s", bpf.Disassemble(g.Unit.Insns))
			}
		})
	}
}

// compileCatalogue compiles the prepatch in a folder of the catalogue.
func compileCatalogue(t *testing.T, folder string) *Prepatch {
	t.Helper()
	text, err := fs.ReadFile(prepatches.Files, folder+"/guard.go")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"guard.go": text}
	p, err := source.ParseFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compile(p, files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// draw makes n bytes from an alphabet, so that some strings are almost right.
func draw(r *rand.Rand, alphabet string, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return b
}

// The guards of the catalogue say the same natively, where their own tests run
// them, and as the bytecode that goes into a process.
func TestCatalogueAgrees(t *testing.T) {
	for _, test := range []struct {
		folder, guard string
		native        any
		words         func(p *libpietest.Process, r *rand.Rand) []uint64
	}{
		{"iperf3/cve-2024-53580", "Strdup", strdup.Strdup, func(p *libpietest.Process, r *rand.Rand) []uint64 {
			return []uint64{r.Uint64N(2) * r.Uint64()}
		}},
		{"iperf3/cve-2025-54350", "DecodeAuthSetting", token.DecodeAuthSetting, func(p *libpietest.Process, r *rand.Rand) []uint64 {
			s := draw(r, "AZaz09+/", r.IntN(13))
			s = append(s, draw(r, "=A#", r.IntN(4))...)
			return []uint64{r.Uint64(), uint64(p.CString(string(s)))}
		}},
		{"redis/cve-2024-31228", "StringMatchLen", pattern.StringMatchLen, func(p *libpietest.Process, r *rand.Rand) []uint64 {
			s := draw(r, "*a", 1900+r.IntN(200))
			return []uint64{uint64(p.Bytes(s)), uint64(len(s)-r.IntN(2)) | r.Uint64()<<32}
		}},
		{"redis/cve-2024-31228", "StringMatch", pattern.StringMatch, func(p *libpietest.Process, r *rand.Rand) []uint64 {
			return []uint64{uint64(p.CString(string(draw(r, "*a", 1900+r.IntN(200)))))}
		}},
		{"redis/cve-2024-31227", "SetSelector", selector.SetSelector, func(p *libpietest.Process, r *rand.Rand) []uint64 {
			s := draw(r, "%%RWrw~~x", r.IntN(6))
			return []uint64{r.Uint64(), uint64(p.Bytes(s)), uint64(len(s) + r.IntN(8)/7)}
		}},
		{"nginx/cve-2024-7347", "CropStscData", stsc.CropStscData, func(p *libpietest.Process, r *rand.Rand) []uint64 {
			var table []byte
			chunk := uint32(1)
			for range r.IntN(5) {
				table = binary.BigEndian.AppendUint32(table, chunk)
				table = binary.BigEndian.AppendUint32(table, []uint32{1, 30, 1 << 30, 1<<31 + 3, 1<<32 - 1}[r.IntN(5)])
				table = binary.BigEndian.AppendUint32(table, 1)
				chunk += r.Uint32N(4) - r.Uint32N(5)/4
			}
			trak := make([]byte, 2496)
			at := uint64(p.Bytes(table))
			binary.LittleEndian.PutUint64(trak[2416:], at)
			binary.LittleEndian.PutUint64(trak[2424:], at+uint64(len(table)+12*(r.IntN(8)/7)))
			return []uint64{r.Uint64(), uint64(p.Bytes(trak)), r.Uint64()}
		}},
		{"nats-server/cve-2019-13126", "ProcessPub", pubsize.ProcessPub, func(p *libpietest.Process, r *rand.Rand) []uint64 {
			s := append(draw(r, "a \t", r.IntN(6)), draw(r, "0123456789", 6+r.IntN(6))...)
			s = append(s, draw(r, " \r", r.IntN(3))...)
			return []uint64{r.Uint64(), r.Uint64(), uint64(p.Bytes(s)), uint64(len(s) + r.IntN(8)/7), uint64(len(s))}
		}},
	} {
		t.Run(test.guard, func(t *testing.T) {
			c := compileCatalogue(t, test.folder)
			b := newBench(t, 11)
			outcomes := map[libpie.Kind]int{}
			for range 200 {
				words := make([]uint64, bpf.FrameArgs)
				copy(words, test.words(b.p, b.r))
				native := b.p.RunWords(test.native, words...)
				if !native.Faulted {
					outcomes[native.Kind]++
				}
				for i := range c.Guards {
					if g := &c.Guards[i]; g.Name == test.guard {
						b.check(t, g, bpf.Frame{Args: [bpf.FrameArgs]uint64(words)}, words, native)
					}
				}
			}
			if outcomes[libpie.Passed] == 0 || outcomes[libpie.Rejected] == 0 {
				t.Errorf("the input does not reach both verdicts: %v", outcomes)
			}
		})
	}
}
