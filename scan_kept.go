package pie

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/patch-integration-engine/pie/internal/find/index"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Kept is what a scan may take from scans before it: which files, mapped together,
// make a process that no prepatch is about. That is nearly all of a machine. What a
// prepatch is about is looked at anew each time, as is which executables bear the
// names that guards have, since links change.
type Kept struct {
	Store *index.Store
	// Revision names the prepatches and the code that compares: what another
	// revision kept is not used.
	Revision string
	// Exes are the names of executables that guards have.
	Exes []string
	// Load gives the prepatches; it is asked when some process has to be looked at.
	Load func() ([]*Prepatch, error)
	// Forget begins anew.
	Forget bool
}

// ScanKept is Scan that neither looks at, nor loads prepatches for, processes of
// which Kept knows that no prepatch is about them.
func ScanKept(ctx context.Context, kept Kept, sel Select) ([]ScanResult, error) {
	k := newKnown()
	defer k.close()
	s := scan{known: k, load: kept.Load, verdicts: map[string][]verdict{}, kept: newUnconcerned(kept)}
	out, err := s.run(ctx, sel)
	if err != nil {
		return nil, err
	}
	return out, s.kept.save()
}

const (
	unconcernedName = "unconcerned"
	// maxUnconcerned bounds what is kept; a machine with more starts anew.
	maxUnconcerned = 20_000
)

// unconcerned is the keys of processes that no prepatch is about. A nil one knows
// nothing and keeps nothing.
type unconcerned struct {
	Kept
	keys  map[string]bool
	added bool
	files map[proc.FileID]string     // keys of mapped files; "" for none
	exes  map[string]map[string]bool // see matching
}

func newUnconcerned(k Kept) *unconcerned {
	u := &unconcerned{Kept: k, keys: map[string]bool{}, files: map[proc.FileID]string{}, exes: map[string]map[string]bool{}}
	var known []string
	if !u.Forget && u.Store.Read(unconcernedName, u.Revision, &known) && len(known) <= maxUnconcerned {
		for _, key := range known {
			u.keys[key] = true
		}
	}
	return u
}

func (u *unconcerned) has(key string) bool { return u != nil && u.keys[key] }

func (u *unconcerned) add(key string) {
	if u != nil && key != "" && len(u.keys) < maxUnconcerned {
		u.keys[key], u.added = true, true
	}
}

func (u *unconcerned) save() error {
	if !u.added {
		return nil
	}
	if err := u.Store.Write(unconcernedName, u.Revision, slices.Sorted(maps.Keys(u.keys))); err != nil {
		return fmt.Errorf("keeping what was found out: %w", err)
	}
	return nil
}

// key names all that decides whether a prepatch is about a process: the names its
// executable has, and the code it maps with its place in the files. It is "" where
// that cannot be told for sure.
func (u *unconcerned) key(p *process, all []proc.Mapping) string {
	if u == nil || u.Revision == "" {
		return ""
	}
	names, ok := u.matching(p)
	if !ok {
		return ""
	}
	h := sha256.New()
	fmt.Fprintln(h, names)
	for _, m := range all {
		if m.Perms&proc.Exec == 0 || !m.HasFile() {
			continue
		}
		file := u.file(p.read, m)
		if file == "" {
			return ""
		}
		fmt.Fprintln(h, file, m.Offset)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// matching returns which of the executables that guards name the process runs. It
// is asked once for all processes that run one file under one name in one root.
func (u *unconcerned) matching(p *process) ([]string, bool) {
	link, _, err := p.read.ExePath()
	if err != nil {
		return nil, false
	}
	id, err := p.read.ExeIdentity()
	if err != nil {
		return nil, false
	}
	root, err := p.read.RootIdentity()
	if err != nil {
		return nil, false
	}
	same := fmt.Sprint(link, id, root)
	known, ok := u.exes[same]
	if !ok {
		known = map[string]bool{}
		for _, exe := range u.Exes {
			if known[exe], err = p.read.RunsExe(exe); err != nil {
				return nil, false
			}
		}
		u.exes[same] = known
	}
	names := slices.DeleteFunc(slices.Clone(u.Exes), func(exe string) bool { return !known[exe] })
	return names, true
}

// file returns the key of a mapped file.
func (u *unconcerned) file(p *proc.Process, m proc.Mapping) string {
	key, known := u.files[m.File]
	if known {
		return key
	}
	if f, err := p.OpenMapped(m); err == nil {
		key, _ = index.Key(locate.Identity{Dev: f.Dev, Inode: f.Inode, Size: f.Size, Changed: f.Changed})
		f.Close()
	}
	u.files[m.File] = key
	return key
}
