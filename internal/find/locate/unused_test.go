package locate

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// The rests of pages that are called unused are in private mappings of the right kind, end
// with a page, and hold zeros in a program that has just begun; none is the dynamic linker's
// data, and none has the heap in it.
func TestUnused(t *testing.T) {
	source := filepath.Join(t.TempDir(), "waits.c")
	if err := os.WriteFile(source, []byte("#include <unistd.h>\nchar c[8];\nint main(void) { return read(0, c, 1) != 1 || write(1, c, 1) != 1 || read(0, c, 1); }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, how := range []struct {
		compiler string
		flags    []string
		data     bool // whether rests of data are taken
	}{
		{"gcc", nil, true}, {"gcc", []string{"-no-pie"}, true}, {"gcc", []string{"-static"}, true}, {"gcc", []string{"-static-pie"}, true},
		{"musl-gcc", []string{"-static"}, true}, {"musl-gcc", nil, false},
	} {
		t.Run(strings.Join(append([]string{how.compiler}, how.flags...), " "), func(t *testing.T) {
			text, data, set := unusedOf(t, source, how.compiler, how.flags)
			if len(text) == 0 || (len(data) > 0) != how.data {
				t.Errorf("%d rests of code, %d of data", len(text), len(data))
			}
			for _, d := range data {
				for _, im := range set.Images {
					linker := strings.HasPrefix(path.Base(im.Path), "ld-")
					if linker && slices.ContainsFunc(im.Mappings, func(m proc.Mapping) bool { return m.Contains(d.Start) }) {
						t.Errorf("%v is %s's", d, im.Path)
					}
				}
			}
		})
	}
}

func unusedOf(t *testing.T, source, compiler string, flags []string) (text, data []Unused, set *Set) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "waits")
	args := append([]string{"-O1", "-o", program, source}, flags...)
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: scripts/setup installs what is missing\n%s", compiler, args, err, out)
	}
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is in main
		t.Fatal(err)
	}
	return unusedIn(t, cmd.Process.Pid)
}

func unusedIn(t *testing.T, pid int) (text, data []Unused, set *Set) {
	t.Helper()
	p, err := proc.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if set, err = Images(p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	heap, err := p.HeapStart()
	if err != nil || heap == 0 {
		t.Fatalf("the heap begins at %v, %v", heap, err)
	}
	text, data = set.Unused(heap)
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range text {
		checkUnused(t, p, maps, u, proc.Read|proc.Exec)
	}
	for _, u := range data {
		if checkUnused(t, p, maps, u, proc.Read|proc.Write); u.Start <= heap && heap < u.End {
			t.Errorf("the heap begins at %v, in %v", heap, u)
		}
	}
	if _, none := set.Unused(0); len(none) > len(data) {
		t.Errorf("without the heap's start %v", none)
	}
	return text, data, set
}

func checkUnused(t *testing.T, p *proc.Process, maps []proc.Mapping, u Unused, perms proc.Perms) {
	t.Helper()
	b := make([]byte, u.End-u.Start)
	_, err := p.ReadAt(b, u.Start)
	if err != nil || u.End != u.End.Page() || u.Start.Page() != (u.End-1).Page() || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("%v holds % x, %v", u, b, err)
	}
	if !slices.ContainsFunc(maps, func(m proc.Mapping) bool { return m.Perms == perms && m.Start <= u.Start && u.End <= m.End }) {
		t.Errorf("%v is in no mapping of its kind", u)
	}
}
