package verify

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// suite is where the public conformance suite lies when it is beside the
// repository.
const suite = "../../../../shared/conformance/bpf_conformance/negative/*.data"

// TestRefusesThePublicNegatives: the encodings that the suite says must be
// refused are, by the decoder or as a wrong instruction, and the texts by the
// assembler.
func TestRefusesThePublicNegatives(t *testing.T) {
	names, err := filepath.Glob(suite)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Log("the public suite is not beside the repository")
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			asm, raw := section(string(text), "asm"), section(string(text), "raw")
			switch {
			case raw != "":
				refusesEncoding(t, raw)
			case asm != "" && !strings.Contains(name, "incorrect_return_value") && !strings.HasSuffix(name, "/error.data"):
				if insns, err := bpf.Assemble(asm); err == nil {
					t.Errorf("assembled to\n%s", bpf.Disassemble(insns))
				}
			}
		})
	}
}

func refusesEncoding(t *testing.T, raw string) {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(raw), ""))
	if err != nil {
		t.Fatal(err)
	}
	insns, err := bpf.Decode(b)
	if err != nil {
		return
	}
	u := unit(t, "mov %r0, 0\nexit\n")
	u.Insns, u.OnFault, u.OnFuel = insns, 0, 0
	var refusal *Error
	if _, err := Verify(u); !errors.As(err, &refusal) || refusal.Reason != ReasonReserved && refusal.Reason != ReasonOpcode {
		t.Errorf("%v, want [%s] or [%s]", err, ReasonReserved, ReasonOpcode)
	}
}

// section is the text between `-- name` and the next such line, without comments.
func section(text, name string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "-- "); ok {
			inside = strings.TrimSpace(rest) == name
			continue
		}
		if code, _, _ := strings.Cut(line, "#"); inside && strings.TrimSpace(code) != "" {
			b.WriteString(code + "\n")
		}
	}
	return b.String()
}
