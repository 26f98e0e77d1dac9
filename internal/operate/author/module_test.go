package author

import (
	"os"
	"os/exec"
	"testing"

	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
)

// What is laid out builds without anything else, and the test that New writes
// passes there.
func TestLayOut(t *testing.T) {
	f := program(t, "gcc", "-g", "testdata/shapes.c")
	info, err := debuginfo.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	params, err := info.Params(vaddr(t, f, "use"))
	if err != nil {
		t.Fatal(err)
	}
	guard, test, err := New(info, Function{Exe: "x", Func: "use", Vaddr: vaddr(t, f, "use"), Params: params})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := LayOut(dir, map[string][]byte{"a/guard.go": guard, "a/guard_test.go": test}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "./"+Package)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOPROXY=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
