package compile

import (
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/prepatches"
)

// Every prepatch of the catalogue compiles and verifies.
func TestCatalogueCompiles(t *testing.T) {
	guards, err := fs.Glob(prepatches.Files, "*/*/guard.go")
	if err != nil || len(guards) == 0 {
		t.Fatalf("%d prepatches: %v", len(guards), err)
	}
	for _, name := range guards {
		t.Run(path.Dir(name), func(t *testing.T) {
			text, err := fs.ReadFile(prepatches.Files, name)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{"guard.go": text}
			p, err := source.ParseFiles(files)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.EqualFold(p.ID, path.Base(path.Dir(name))) {
				t.Errorf("%s is in the folder %s", p.ID, path.Dir(name))
			}
			c, err := Compile(p, files)
			if err != nil {
				t.Fatal(err)
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
