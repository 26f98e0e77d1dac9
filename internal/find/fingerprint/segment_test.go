package fingerprint

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// TestPartsAreReadAsTheFileHasThem asks for spans of every segment in any order.
func TestPartsAreReadAsTheFileHasThem(t *testing.T) {
	m := build(t, "-O2").Module
	random := rand.New(rand.NewPCG(1, 2))
	for i := range m.image.segments {
		s := &m.image.segments[i]
		for range 300 {
			v := s.at + address.Vaddr(random.Uint64N(s.size))
			n := random.Uint64N(3 * blockSize)
			want := make([]byte, min(n, s.size-uint64(v-s.at)))
			if err := m.file.ReadVaddr(want, v); err != nil {
				t.Fatal(err)
			}
			if got := m.image.bytes(v, n); !bytes.Equal(got, want) {
				t.Fatalf("%d bytes at %v are not the file's", n, v)
			}
			if got := m.image.code(v, n); !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of code at %v are not the file's", n, v)
			}
		}
	}
	if err := m.Err(); err != nil {
		t.Error(err)
	}
}

// shrinking is a file that is cut off at one time.
type shrinking struct {
	*bytes.Reader
	cut bool
}

func (s *shrinking) ReadAt(b []byte, off int64) (int, error) {
	if s.cut {
		return 0, io.EOF
	}
	return s.Reader.ReadAt(b, off)
}

func TestFileThatShrinksIsNotAnswered(t *testing.T) {
	out := filepath.Join(t.TempDir(), "shop")
	run(t, "gcc", "-O2", "-o", out, "testdata/shop.c")
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	p := build(t, "-O2")
	fp := create(t, "parse_line", p.build("parse_line", false))
	r := &shrinking{Reader: bytes.NewReader(data)}
	f, err := binfile.Open(r, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Analyze(f)
	if err != nil {
		t.Fatal(err)
	}
	m.BuildID, r.cut = "another", true
	m.image.windows = windows{} // what the file's beginning was looked at with
	got := m.Find(fp)
	if got.Tier != None || len(got.Why) == 0 || !strings.Contains(got.Why[0], "could not be read") {
		t.Errorf("answered %v, %q", got.Tier, got.Why)
	}
	if got := m.Fixed(fp.Outline(), p.at("parse_line")); got != FixUnknown {
		t.Errorf("whether it has the fix: %v", got)
	}
	if _, err := Create("parse_line", []Build{{Label: "cut", Module: m, At: p.at("parse_line")}}); err == nil {
		t.Error("a fingerprint was made of it")
	}
}

// TestNodeIsThatOfTheBody compares what is read of a function for its node alone.
func TestNodeIsThatOfTheBody(t *testing.T) {
	m := build(t, "-O2").Module
	for i := range m.funcs {
		alone := m.node(i)
		if got := nodeOf(m.body(i)); got != alone {
			t.Errorf("function %d: %v, and of all that is known of it %v", i, alone, got)
		}
	}
}

// TestTextsGoOnBehindABorder looks for texts in data that is read in pieces.
func TestTextsGoOnBehindABorder(t *testing.T) {
	data := bytes.Repeat([]byte("a text of words\x00\x00\x01\x02another one, longer\x00"), 40)
	texts := func(size int) []string {
		var out []string
		var room []byte
		kept := 0
		for piece := range slices.Chunk(data, size) {
			room = append(room[:kept], piece...)
			kept = copy(room, eachTextIn(room, kept, func(s []byte) { out = append(out, string(s)) }))
		}
		return out
	}
	want := texts(len(data))
	if len(want) != 80 {
		t.Fatalf("%d texts", len(want))
	}
	for size := 1; size < 60; size++ {
		if got := texts(size); !slices.Equal(got, want) {
			t.Fatalf("in pieces of %d bytes %d texts, not %d: %q", size, len(got), len(want), got[:min(len(got), 4)])
		}
	}
}
