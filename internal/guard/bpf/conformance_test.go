package bpf_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// suite is where the public conformance suite lies when it is beside the
// repository; the project's own vectors are in testdata.
const suite = "../../../../shared/conformance/bpf_conformance"

// A vector is one file of the suite's format: sections that begin with `-- name`.
type vector map[string]string

func readVector(t *testing.T, name string) vector {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	v := vector{}
	section := ""
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok {
			section = name
			v[section] += ""
			continue
		}
		v[section] += line
	}
	return v
}

// insns assembles the vector, or decodes its raw section.
func (v vector) insns() ([]bpf.Insn, error) {
	if text, ok := v["asm"]; ok {
		return bpf.Assemble(text)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(withoutComments(v["raw"])), ""))
	if err != nil {
		return nil, err
	}
	return bpf.Decode(b)
}

func withoutComments(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		code, _, _ := strings.Cut(line, "#")
		b.WriteString(code + "\n")
	}
	return b.String()
}

// run gives the result as the suite's runner does.
func (v vector) run() (uint64, error) {
	insns, err := v.insns()
	if err != nil {
		return 0, err
	}
	mem, err := hex.DecodeString(strings.Join(strings.Fields(withoutComments(v["mem"])), ""))
	if err != nil {
		return 0, err
	}
	const at = 0x10000000
	return bpf.RunPlain(insns, &block{at: at, bytes: mem}, at, uint64(len(mem)), suiteHelper)
}

// suiteHelper is the helper that the suite's vectors call: number 5 gives its
// argument back.
func suiteHelper(number int32, args [5]uint64) (uint64, error) {
	if number != 5 {
		return 0, errors.New("unknown helper")
	}
	return args[0], nil
}

// A block is writable memory at an address.
type block struct {
	at    uint64
	bytes []byte
}

func (b *block) span(addr uint64, n int) []byte {
	if addr < b.at || addr-b.at > uint64(len(b.bytes)) || uint64(n) > uint64(len(b.bytes))-(addr-b.at) {
		return nil
	}
	return b.bytes[addr-b.at:][:n]
}

func (b *block) Read(addr uint64, p []byte) bool {
	s := b.span(addr, len(p))
	copy(p, s)
	return s != nil
}

func (b *block) Write(addr uint64, p []byte) bool {
	s := b.span(addr, len(p))
	copy(s, p)
	return s != nil
}

func runVectors(t *testing.T, pattern string) {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no vectors match %s (%v)", pattern, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".data"), func(t *testing.T) {
			v := readVector(t, name)
			want, err := strconv.ParseUint(strings.TrimSpace(withoutComments(v["result"])), 0, 64)
			if err != nil {
				t.Fatalf("result section: %v", err)
			}
			got, err := v.run()
			if err != nil || got != want {
				t.Errorf("r0 = %#x, %v; want %#x", got, err, want)
			}
		})
	}
}

func TestOwnVectors(t *testing.T) { runVectors(t, "testdata/vectors/*.data") }

func TestPublicSuite(t *testing.T) {
	if _, err := os.Stat(suite); errors.Is(err, os.ErrNotExist) {
		t.Log("the public suite is not beside the repository; only the project's own vectors ran")
		return
	}
	runVectors(t, suite+"/tests/*.data")
}
