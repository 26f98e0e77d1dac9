package locate

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// copyFile copies a program or library, as a new inode.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o700); err != nil {
		t.Fatal(err)
	}
}

// The executable runs on after it was removed, or another file took its place:
// what is read is what is mapped.
func TestDeletedAndReplacedExecutable(t *testing.T) {
	other := gcc(t, "other", "-O0", "testdata/victim.c")
	for name, change := range map[string]func(exe string) error{
		"deleted":  os.Remove,
		"replaced": func(exe string) error { return os.Rename(other, exe) },
	} {
		t.Run(name, func(t *testing.T) {
			exe := gcc(t, "victim", "-O2", "testdata/victim.c")
			p := start(t, exec.Command(exe))
			if err := change(exe); err != nil {
				t.Fatal(err)
			}
			found, err := Find(p, Query{Exe: "victim", Func: "hidden"})
			if err != nil {
				t.Fatal(err)
			}
			f := found[0]
			if f.Entry != p.addrs["hidden"] || !f.Image.Deleted {
				t.Errorf("hidden at %v, want %v; deleted %v", f.Entry, p.addrs["hidden"], f.Image.Deleted)
			}
			inMemory(t, p, f)
			if ok, err := p.RunsExe(exe); ok || err != nil {
				t.Errorf("the file now at %s counts as the one that runs: %v, %v", exe, ok, err)
			}
		})
	}
}

func TestReplacedLibrary(t *testing.T) {
	args := []string{"-shared", "-fPIC", "-Wl,-soname,libanswers.so.1", "-Wl,--version-script=testdata/answers.map", "testdata/answers.c"}
	lib := gcc(t, "libanswers.so.1", append([]string{"-O2"}, args...)...)
	newer := gcc(t, "newer.so", append([]string{"-O0"}, args...)...)
	p := start(t, exec.Command(gcc(t, "loader", "testdata/loader.c"), lib))
	if err := os.Rename(newer, lib); err != nil {
		t.Fatal(err)
	}
	found, err := Find(p, Query{Lib: "libanswers.so.1", Func: "answer"})
	if err != nil || found[0].Entry != p.addrs["answer"] {
		t.Fatalf("%+v, %v; want %v", found, err, p.addrs["answer"])
	}
	inMemory(t, p, found[0])
}

// In another mount namespace the path of the program leads elsewhere for us:
// here to a program that is built differently.
func TestOtherMountNamespace(t *testing.T) {
	inner := gcc(t, "inner", "-O2", "testdata/victim.c")
	dir := t.TempDir()
	exe := filepath.Join(dir, "victim")
	copyFile(t, gcc(t, "outer", "-O0", "testdata/victim.c"), exe)
	// unshare(1) makes mounts private, so that the tmpfs is not seen outside.
	const script = `mount -t tmpfs none "$1" && cp "$2" "$1/victim" && ln -s victim "$1/server" && exec "$1/victim"`
	p := start(t, exec.Command("unshare", "-m", "sh", "-c", script, "sh", dir, inner))
	found, err := Find(p, Query{Exe: exe, Func: "shown"})
	if err != nil {
		t.Fatal(err)
	}
	if found[0].Entry != p.addrs["shown"] {
		t.Errorf("shown at %v, want %v", found[0].Entry, p.addrs["shown"])
	}
	inMemory(t, p, found[0])
	for name, want := range map[string]bool{
		exe: true, "victim": true, "server": true, filepath.Join(dir, "server"): true, "other": false, "/bin/sh": false,
	} {
		if got, err := p.RunsExe(name); got != want || err != nil {
			t.Errorf("RunsExe(%q) = %v, %v; want %v", name, got, err, want)
		}
	}
}

// A library of Debian, stripped: .dynsym and .eh_frame are all there is.
func TestStrippedSystemLibrary(t *testing.T) {
	p, set := images(t, exec.Command(gcc(t, "victim", "-s", "testdata/victim.c")))
	f := findOne(t, set, Query{Lib: "libc.so.6", Func: "strdup"})
	if _, err := f.Image.File.Symbols(); !errors.Is(err, binfile.ErrNoTable) {
		t.Logf("this libc is not stripped: %v", err)
	}
	if f.Entry != p.addrs["strdup"] || f.Size == 0 || f.Size > 4096 {
		t.Errorf("strdup at %v, %d bytes; want %v", f.Entry, f.Size, p.addrs["strdup"])
	}
	inMemory(t, p, f)
}

// Every kind of file the tests know is found in a process, with the address
// the program itself prints.
func TestStatic(t *testing.T) {
	for _, flag := range []string{"-static", "-static-pie"} {
		p, set := images(t, exec.Command(gcc(t, "victim", "-O2", flag, "testdata/static.c")))
		f := findOne(t, set, Query{Func: "hidden"})
		if f.Entry != p.addrs["hidden"] {
			t.Errorf("%s: hidden at %v, want %v", flag, f.Entry, p.addrs["hidden"])
		}
		inMemory(t, p, f)
		f = findOne(t, set, Query{Func: "memcpy"})
		if f.Entry != p.addrs["memcpy"] {
			t.Errorf("%s: memcpy, an IFUNC, at %v, want %v", flag, f.Entry, p.addrs["memcpy"])
		}
		off, err := set.Errno()
		if fs := p.addrs["fs"]; err != nil || fs.Add(int64(off)) != p.addrs["errno"] {
			t.Errorf("%s: errno at fs%+d, %v; want %v, fs is %v", flag, off, err, p.addrs["errno"], fs)
		}
	}
}
