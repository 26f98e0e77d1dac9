package gate

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// replace puts another file with the same content at a path, as package managers do.
func replace(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o755)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func fileAt(t *testing.T, path string) File {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return File{Path: path, Dev: st.Dev, Inode: st.Ino, Use: []int{0}}
}

// The first start after an upgrade is held, with no time between the two and nobody
// to tell the gate: of ten, one after another, none runs unheld.
func TestUpgrade(t *testing.T) {
	f := victim(t)
	g := start(t, f)
	guarded := 0
	for i := range 10 {
		replace(t, f.Path)
		status, r, _ := run(t, g, f.Path, "101") // fails without a word of the gate's
		switch {
		case r.Kind == Guarded && r.Window == 0 && status == 7:
			guarded++
		case r.Kind == Guarded && r.Window > 0, r.Kind == Late, r.Kind == Refused && r.Window > 0: // told as such
			time.Sleep(300 * time.Millisecond)
		default:
			t.Fatalf("upgrade %d: status %d, %+v", i, status, r)
		}
		if i%2 == 0 { // as the agent does when it has noticed
			if err := g.Update([]File{fileAt(t, f.Path)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if t.Logf("%d of 10 guarded before they ran", guarded); guarded == 0 && !raced {
		t.Error("all were late")
	}
}

// Other programs in the folder of a held one are nobody's: no word of them, and
// they start also when an older one is renamed to the path, which then counts.
func TestNeighbours(t *testing.T) {
	f := victim(t)
	dir := filepath.Dir(f.Path)
	other := filepath.Join(dir, "other")
	if out, err := exec.Command("cp", f.Path, other).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	g := start(t, f)
	for range 3 {
		if err := exec.Command(other, "4").Run(); err.(*exec.ExitError).ExitCode() != 4 {
			t.Fatal(err)
		}
	}
	select {
	case r := <-g.Reports():
		t.Errorf("of another program: %+v", r)
	case <-time.After(100 * time.Millisecond):
	}
	if err := os.Rename(other, f.Path); err != nil {
		t.Fatal(err)
	}
	if status, r, _ := run(t, g, f.Path, "101"); status != 7 && (status != -int(syscall.SIGSEGV) || r.Kind == Guarded && r.Window == 0) {
		t.Errorf("status %d, %+v", status, r)
	}
}

// What was held is not any more when the gate is told of other files, and the gate
// lives on.
func TestUpdate(t *testing.T) {
	f, other := victim(t), victim(t)
	g := start(t, f)
	if err := g.Update([]File{other}); err != nil {
		t.Fatal(err)
	}
	for {
		r, ok := <-g.Reports()
		if !ok {
			t.Fatal("the gate ended")
		}
		if r.Kind == Ready && r.Marked == 1 {
			break
		}
	}
	_ = exec.Command(f.Path, "4").Run()
	status, r, _ := run(t, g, other.Path, "4")
	told := r.Kind == Guarded || r.Kind == Late || r.Kind == Refused && r.Window > 0 // let go of while it was linked
	if status != 4 || !told {
		t.Errorf("status %d, %+v", status, r)
	}
}
