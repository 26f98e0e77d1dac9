package index

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/find/locate"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestWriteThenRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "store")
	want := map[string]int{"a": 1}
	if err := open(t, dir).Write("x", "1", want); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	var got map[string]int
	if !s.Read("x", "1", &got) || got["a"] != 1 {
		t.Errorf("read %v", got)
	}
	for _, c := range []struct{ name, revision string }{{"x", "2"}, {"y", "1"}, {"../x", "1"}} {
		if s.Read(c.name, c.revision, &got) {
			t.Errorf("%v was read", c)
		}
	}
	if err := s.Write("x", "2", want); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".part-*")); len(left) > 0 || s.Read("x", "1", &got) {
		t.Errorf("what was replaced is still there: %v", left)
	}
}

// TestHostileFolder holds that what others may have put there is not believed, and
// never waited for.
func TestHostileFolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	file := filepath.Join(dir, "x.json")
	var into any
	for name, put := range map[string]func() error{
		"a pipe":         func() error { return unix.Mkfifo(file, 0o600) },
		"a link":         func() error { return os.Symlink("/etc/passwd", file) },
		"a folder":       func() error { return os.Mkdir(file, 0o700) },
		"no JSON":        func() error { return os.WriteFile(file, []byte("{"), 0o600) },
		"deep JSON":      func() error { return os.WriteFile(file, []byte(strings.Repeat("[", 1<<20)), 0o600) },
		"another format": func() error { return os.WriteFile(file, []byte(`{"format":2,"revision":"1","content":1}`), 0o600) },
		"written by all": func() error {
			return errors.Join(os.WriteFile(file, []byte(`{"format":1,"revision":"1","content":1}`), 0o600), os.Chmod(file, 0o666))
		},
		"too large": func() error { return errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, maxFile+1)) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if s.Read("x", "1", &into) {
			t.Errorf("%s was believed", name)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrShared) {
		t.Errorf("a folder for all: %v", err)
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrShared) {
			t.Errorf("somebody else's folder: %v", err)
		}
	}
}

func TestKey(t *testing.T) {
	old := locate.Identity{Dev: 1, Inode: 2, Size: 3, Changed: time.Now().Add(-time.Minute).UnixNano()}
	a, ok := Key(old)
	if !ok {
		t.Error("an old file has no key")
	}
	for _, other := range []locate.Identity{{Dev: 9, Inode: 2, Size: 3, Changed: old.Changed}, {Dev: 1, Inode: 2, Size: 4, Changed: old.Changed}, {Dev: 1, Inode: 2, Size: 3, Changed: old.Changed - 1}} {
		if b, _ := Key(other); a == b {
			t.Errorf("%v and %v have one key", old, other)
		}
	}
	fresh := old
	fresh.Changed = time.Now().UnixNano()
	if k, ok := Key(fresh); ok {
		t.Errorf("a file that was just changed has the key %s", k)
	}
	if k, ok := Key(locate.Identity{}); ok {
		t.Errorf("a file that is not known has the key %s", k)
	}
}

func TestDigest(t *testing.T) {
	a, err := Digest(strings.NewReader("abc"), 3)
	if b, _ := Digest(strings.NewReader("abd"), 3); err != nil || a == b || a == "" {
		t.Errorf("%s, %s, %v", a, b, err)
	}
	for _, size := range []int64{4, -1, maxDigested + 1} {
		if d, err := Digest(strings.NewReader("abc"), size); err == nil {
			t.Errorf("a file of %d bytes has the digest %s", size, d)
		}
	}
}
