package jit

import (
	"testing"

	golang "github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// fromGo compiles and verifies the first guard of a prepatch in Go.
func fromGo(t testing.TB, text string) *verify.Program {
	t.Helper()
	files := map[string][]byte{"guard.go": []byte(text)}
	p, err := source.ParseFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	c, err := golang.Compile(p, files)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := verify.Verify(c.Guards[0].Unit)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}
