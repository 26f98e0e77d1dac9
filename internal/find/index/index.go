// Package index keeps, from one run to the next, what was found out about the files
// that processes of this machine map, so that looking again costs a look at a
// folder.
//
// A store is a folder of small JSON files, one a question; who asks says what is in
// them. Answers are about the content of files (Digest). A build ID would not do, as it
// can be given to any file. Which file has which content is kept by Key: device, inode,
// size and time of change. A time of modification can be set; the time of change
// (st_ctim) cannot, and a file that was changed a moment ago, which may be changed
// again within the same tick of the clock, has no key.
//
// Invariants:
//
//   - What others can write is not believed: the folder and each file must belong to
//     who asks, and nobody else may write there. Links are not followed.
//   - A file is replaced whole or not at all; one that cannot be read, is of another
//     format or too large counts as absent.
//   - Answers hold for one revision of the code that gave them, as the asker names it.
//   - Nothing is lost with a store but time.
package index

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/patch-integration-engine/pie/internal/find/locate"
)

const (
	// format is of the files: what has another is begun anew.
	format = 1
	// maxFile bounds a file that is read, in bytes.
	maxFile = 64 << 20
	// settled is how long ago a file must have been changed to have a key.
	settled = 2 * time.Second
)

// ErrShared says that others than the asker can write to a store.
var ErrShared = errors.New("others may write there")

// Folder is where a store is when the operator names none: /var/cache/pie for root,
// else pie below XDG_CACHE_HOME or ~/.cache.
func Folder() (string, error) {
	if os.Geteuid() == 0 && os.Getenv("XDG_CACHE_HOME") == "" {
		return "/var/cache/pie", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "pie"), nil
}

// Store is an open folder.
type Store struct{ root *os.Root }

// Open opens a store, making the folder when there is none. An error that is
// ErrShared says that the folder is somebody else's too.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil && !own(info) {
		err = fmt.Errorf("%s: %w; name a folder of your own", dir, ErrShared)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Store{root}, nil
}

// Close closes the folder.
func (s *Store) Close() error { return s.root.Close() }

// own tells whether a file belongs to who runs this, and nobody else may write it.
func own(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && info.Mode().Perm()&0o022 == 0
}

// envelope is what is in a file.
type envelope struct {
	Format   int             `json:"format"`
	Revision string          `json:"revision"`
	Content  json.RawMessage `json:"content"`
}

// Read fills into with what was written under a name by the same revision. It is
// false when there is nothing that could be used.
func (s *Store) Read(name, revision string, into any) bool {
	b, err := s.read(name)
	if err != nil {
		return false
	}
	var e envelope
	return json.Unmarshal(b, &e) == nil && e.Format == format && e.Revision == revision && json.Unmarshal(e.Content, into) == nil
}

func (s *Store) read(name string) ([]byte, error) {
	file := fileName(name)
	info, err := s.root.Lstat(file) // before it is opened: opening a pipe would wait
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !own(info) || info.Size() > maxFile {
		return nil, ErrShared
	}
	f, err := s.root.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// Write replaces what is under a name.
func (s *Store) Write(name, revision string, content any) error {
	b, err := json.Marshal(content)
	if err == nil {
		b, err = json.Marshal(envelope{format, revision, b})
	}
	if err != nil {
		return err
	}
	// Two that write at once each have a file of their own; the later one stays.
	part := fmt.Sprintf(".part-%d-%d", os.Getpid(), time.Now().UnixNano())
	f, err := s.root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.root.Rename(part, fileName(name))
	}
	if err != nil {
		return errors.Join(err, s.root.Remove(part))
	}
	return nil
}

// fileName keeps to the letters, digits and hyphens of a name.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, name) + ".json"
}

// Key names a file and what is in it. It is false for a file that has just been
// changed, or of which nothing is known.
func Key(id locate.Identity) (string, bool) {
	if id == (locate.Identity{}) || time.Since(time.Unix(0, id.Changed)) < settled {
		return "", false
	}
	return fmt.Sprintf("%x:%x:%x:%x", id.Dev, id.Inode, id.Size, id.Changed), true
}

// Program is a revision: the running program as a file. Whoever has another build of
// it, or another set of what it embeds, asks anew. It is "" when that cannot be told.
func Program() string {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/self/exe", &st); err != nil {
		return ""
	}
	key, _ := Key(locate.Identity{Dev: st.Dev, Inode: st.Ino, Size: st.Size, Changed: st.Ctim.Nano()})
	return key
}

// maxDigested bounds a file that is looked at, in bytes.
const maxDigested = 1 << 30

// Digest names what is in a file, so that copies of it, as containers have them,
// are looked at once.
func Digest(r io.ReaderAt, size int64) (string, error) {
	if size < 0 || size > maxDigested {
		return "", fmt.Errorf("a file of %d bytes is too large to look at", size)
	}
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(r, 0, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF // it shrank
	}
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
