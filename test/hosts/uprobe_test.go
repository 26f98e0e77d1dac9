package hosts

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// uprobe is a kernel uprobe on the entry of a program's guarded function, through
// tracefs, which is mounted for the test.
type uprobe struct {
	t   testing.TB
	dir string
}

func newUprobe(t testing.TB, path string) *uprobe {
	t.Helper()
	u := &uprobe{t, t.TempDir()}
	if err := unix.Mount("tracefs", u.dir, "tracefs", 0, ""); err != nil {
		t.Fatalf("mounting tracefs (the test runs as root on a kernel with CONFIG_UPROBE_EVENTS): %v", err)
	}
	t.Cleanup(func() {
		u.enable(false)
		_ = u.write("uprobe_events", "-:pie_hosts/entry")
		_ = unix.Unmount(u.dir, unix.MNT_DETACH)
	})
	if err := u.write("uprobe_events", fmt.Sprintf("p:pie_hosts/entry %s:%#x", path, offsetOf(t, path, "guarded"))); err != nil {
		t.Fatal(err)
	}
	return u
}

// offsetOf is where in its file a function is.
func offsetOf(t testing.TB, path, name string) uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		for _, p := range f.Progs {
			if s.Name == name && p.Type == elf.PT_LOAD && p.Vaddr <= s.Value && s.Value < p.Vaddr+p.Filesz {
				return s.Value - p.Vaddr + p.Off
			}
		}
	}
	t.Fatalf("no %s in %s", name, path)
	return 0
}

func (u *uprobe) write(file, text string) error {
	f, err := os.OpenFile(filepath.Join(u.dir, file), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func (u *uprobe) enable(on bool) {
	u.t.Helper()
	text := "0"
	if on {
		text = "1"
	}
	if err := u.write("events/pie_hosts/entry/enable", text); err != nil {
		u.t.Error(err)
	}
}

// A kernel uprobe on the entry runs the file's first instruction, wherever the
// detour is: attached before the guard, after it, and again and again meanwhile.
func TestKernelUprobeOnTheEntry(t *testing.T) {
	path := build(t, "uprobed", "gcc", "-fcf-protection=full", "-pthread", "plain.c", "guarded.c")
	u := newUprobe(t, path)
	h := start(t, nil, path, "", "2")
	p := guard(t, "HOST-1", exeOf(path))

	u.enable(true)
	h.calls(perHalf)
	h.insert(p)
	h.guarded()
	u.enable(false)
	h.guarded()
	u.enable(true)
	h.guarded()
	h.remove(p.ID)
	h.calls(20)
	u.enable(false)
	h.asItsFiles()

	stop := make(chan struct{})
	toggled := make(chan int)
	go func() {
		n := 0
		for on := true; ; on = !on {
			select {
			case <-stop:
				toggled <- n
				return
			case <-time.After(3 * time.Millisecond):
				u.enable(on)
				n++
			}
		}
	}()
	for range 4 {
		h.insert(p)
		h.guarded()
		h.remove(p.ID)
		h.calls(perHalf)
	}
	close(stop)
	t.Logf("the uprobe came and went %d times meanwhile", <-toggled)
	u.enable(false)
	h.asItsFiles()
}
