package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/catalogue"
	"github.com/patch-integration-engine/pie/internal/operate/policy"
)

// Bounds of what is read from the folder of prepatches, in bytes.
const (
	maxSource      = 1 << 20
	maxFingerprint = 16 << 20
)

// prepatch is a prepatch as the agent uses it.
type prepatch struct {
	*pie.Prepatch
	files        map[string][]byte
	fingerprints map[string][]byte
}

// contents is equal for prepatches of the same sources and fingerprints.
func (p *prepatch) contents() string { return contentsOf(p.files, p.fingerprints) }

func contentsOf(files, fingerprints map[string][]byte) string {
	h := sha256.New()
	sources := pie.HashOf(files)
	h.Write(sources[:])
	for _, name := range slices.Sorted(maps.Keys(fingerprints)) {
		sum := sha256.Sum256(fingerprints[name])
		fmt.Fprintf(h, "%q %x", name, sum)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// keptSince is when the policy began to ask for a prepatch: now, unless it does already.
func (a *Agent) keptSince(id string) time.Time {
	for _, r := range a.active() {
		if r.ID == id {
			return r.since
		}
	}
	return time.Now()
}

// load reads the policy and every prepatch it names. All is taken or nothing.
func (a *Agent) load() error {
	stamp := a.stampNow()
	text, err := readBounded(a.c.Policy, maxSource)
	if err != nil {
		return fmt.Errorf("reading the policy: %w", err)
	}
	p, err := policy.Parse(a.c.Policy, text)
	if err != nil {
		return err
	}
	sources := map[string]*prepatch{}
	var rules []*rule
	var errs []error
	for _, r := range p.Rules {
		if sources[r.ID] == nil {
			found, err := findPrepatch(a.c.Prepatches, r.ID)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %w", a.c.Policy, r.Line, err))
				continue
			}
			sources[r.ID] = found
		}
		p := sources[r.ID]
		r.ID = p.ID // as processes have it: the policy may write it in small letters
		rules = append(rules, &rule{Rule: r, prepatch: p, since: a.keptSince(r.ID)})
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.rules, a.sources, a.policyErr, a.stamp = rules, sources, nil, stamp
	return nil
}

// stampNow changes when the policy or the folder of prepatches does: also when a file was
// replaced by one of the same size and time, as cp -p and rsync do.
func (a *Agent) stampNow() string {
	var b strings.Builder
	note := func(path string) {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil {
			fmt.Fprintln(&b, path, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim)
		}
	}
	note(a.c.Policy)
	if a.c.Prepatches == "" {
		return b.String()
	}
	const most = 4096
	all := 0
	// The dot has a link followed that is the folder.
	_ = filepath.WalkDir(a.c.Prepatches+"/.", func(path string, _ fs.DirEntry, err error) error {
		if all++; all > most {
			return fs.SkipAll
		}
		if note(path); err != nil { // it cannot be read, or has just gone: the others are looked at
			return fs.SkipDir
		}
		return nil
	})
	return b.String()
}

// filesTurn reads the policy and its prepatches again when they have changed, and stand
// still since: who writes a file in place leaves part of it there meanwhile, which may be a
// policy, too.
func (a *Agent) filesTurn(ctx context.Context) {
	now := a.stampNow()
	if now != a.stamp && now == a.stampBefore {
		_ = a.reload(ctx) // it logs what is wrong
	}
	a.stampBefore = now
}

// findPrepatch looks for an id in the folder, then in the catalogue.
func findPrepatch(dir, id string) (*prepatch, error) {
	for _, entry := range []string{filepath.Join(dir, id), filepath.Join(dir, id+".go")} {
		if dir == "" {
			continue
		}
		// One that is there and cannot be looked at is not the catalogue's of that name.
		switch _, err := os.Stat(entry); {
		case err == nil:
			return readPrepatch(entry, id)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("looking for the prepatch %s: %w", id, err)
		}
	}
	e, ok := catalogue.Lookup(id)
	if !ok {
		return nil, fmt.Errorf("%s is neither in the catalogue nor in %s (as a folder %s, or as %s.go)", id, dir, id, id)
	}
	return compile(&prepatch{files: e.Files}, id)
}

// readPrepatch reads a .go file, or a folder of them, and the fingerprints it
// names.
func readPrepatch(path, id string) (*prepatch, error) {
	names, folder := []string{path}, filepath.Dir(path)
	if !strings.HasSuffix(path, ".go") {
		var err error
		if names, err = filepath.Glob(filepath.Join(path, "*.go")); err != nil {
			return nil, err
		}
		folder = path
	}
	p := &prepatch{files: map[string][]byte{}, fingerprints: map[string][]byte{}}
	for _, n := range names {
		if strings.HasSuffix(n, "_test.go") {
			continue
		}
		b, err := readBounded(n, maxSource)
		if err != nil {
			return nil, err
		}
		p.files[n] = b
	}
	if len(p.files) == 0 {
		return nil, fmt.Errorf("%s has no .go file", path)
	}
	if _, err := compile(p, id); err != nil {
		return nil, err
	}
	for _, name := range p.FingerprintFiles() {
		b, err := readBounded(filepath.Join(folder, name), maxFingerprint)
		if err != nil {
			return nil, err
		}
		if err := p.UseFingerprint(name, b); err != nil {
			return nil, err
		}
		p.fingerprints[name] = b
	}
	return p, nil
}

// compile proves the prepatch, and that it is the one that was asked for.
func compile(p *prepatch, id string) (*prepatch, error) {
	var err error
	if p.Prepatch, err = pie.Load(p.files); err != nil {
		return nil, err
	}
	if !strings.EqualFold(p.ID, id) {
		return nil, fmt.Errorf("the prepatch says //pie:id %s, not %s", p.ID, id)
	}
	return p, nil
}

// readBounded reads a regular file of at most limit bytes. Another kind of file that has
// come to the path is not waited for.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var b []byte
	if st.Mode().IsRegular() {
		b, err = io.ReadAll(io.LimitReader(f, limit+1))
	}
	if !st.Mode().IsRegular() || int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: not a regular file of at most %d KiB", path, limit>>10)
	}
	return b, err
}

// executables are those the guards of a prepatch name; none when one guard names
// a library alone, which any program may map.
func (p *prepatch) executables() []string {
	var exes []string
	for _, g := range p.Guards {
		if g.Exe == "" {
			return nil
		}
		exes = append(exes, g.Exe)
	}
	return exes
}

// expired tells whether the prepatch's day is over.
func (p *prepatch) expired(now time.Time) bool {
	return !p.Expires.IsZero() && !now.Before(p.Expires)
}
