package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/index"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// mappedFile is a program or library that processes of this machine run.
type mappedFile struct {
	Path    string   `json:"file"`              // as the first process has it
	Deleted bool     `json:"deleted,omitempty"` // or replaced, and still run
	BuildID string   `json:"build_id,omitempty"`
	Pids    []int    `json:"pids"`
	Found   []answer `json:"found,omitempty"` // what fingerprints find in it, better than nothing
}

// host looks in everything that the processes of this machine map for the functions
// of fingerprints. Each content is searched once; answers come from the store where it
// has them.
type host struct {
	store    *index.Store // nil for none
	revision string
	asked    []*asked
	contents map[string]content // by index.Key
	changed  bool
	files    map[proc.FileID]*mappedFile // nil for what could not be read
	order    []*mappedFile
}

// content is what is kept of a file's content.
type content struct {
	Digest  string `json:"digest"` // "" for what is no program
	BuildID string `json:"build_id,omitempty"`
}

// asked is a fingerprint with its answers by digest.
type asked struct {
	fp      *fingerprint.Fingerprint
	answers map[string]*answer
	changed bool
}

const contentsName = "contents"

func (a *asked) name() string { return "find-" + a.fp.ID() }

// newHost takes from the store what is known. With fresh nothing is.
func newHost(store *index.Store, fps []*fingerprint.Fingerprint, fresh bool) *host {
	h := &host{store: store, revision: index.Program(), contents: map[string]content{}, files: map[proc.FileID]*mappedFile{}}
	if h.revision == "" {
		h.store = nil
	}
	known := h.store != nil && !fresh
	if known {
		h.store.Read(contentsName, h.revision, &h.contents)
	}
	for _, fp := range fps {
		a := &asked{fp: fp, answers: map[string]*answer{}}
		if known {
			h.store.Read(a.name(), h.revision, &a.answers)
		}
		h.asked = append(h.asked, a)
	}
	return h
}

// look looks at every process. What cannot be read is passed over: a process that
// ended, a file of another kind.
func (h *host) look() error {
	pids, err := processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		p, err := proc.Open(pid)
		if err != nil {
			continue
		}
		if maps, err := p.Maps(); err == nil {
			h.process(p, pid, maps)
		}
		p.Close()
	}
	return h.save()
}

func (h *host) process(p *proc.Process, pid int, maps []proc.Mapping) {
	for _, m := range maps {
		if m.Perms&proc.Exec == 0 || !m.HasFile() {
			continue
		}
		f, known := h.files[m.File]
		if !known {
			if f = h.open(p, m); f != nil {
				h.order = append(h.order, f)
			}
			h.files[m.File] = f
		}
		if f != nil && (len(f.Pids) == 0 || f.Pids[len(f.Pids)-1] != pid) {
			f.Pids = append(f.Pids, pid)
		}
	}
}

// open looks at a mapped file; nil when it is no program.
func (h *host) open(p *proc.Process, m proc.Mapping) *mappedFile {
	file, err := p.OpenMapped(m)
	if err != nil {
		return nil
	}
	defer file.Close()
	key, settled := index.Key(locate.Identity{Dev: file.Dev, Inode: file.Inode, Size: file.Size, Changed: file.Changed})
	c, known := h.contents[key]
	if !known || !settled {
		c = contentOf(file)
		if settled {
			h.contents[key], h.changed = c, true
		}
	}
	if c.Digest == "" {
		return nil
	}
	out := &mappedFile{Path: m.Path, Deleted: m.Deleted, BuildID: c.BuildID}
	search := newSearch(file, m.Path)
	for _, a := range h.asked {
		found, known := a.answers[c.Digest]
		if !known {
			found = search.find(a.fp)
			a.answers[c.Digest], a.changed = found, true
		}
		if tier := tierNamed(found.Tier); tier > fingerprint.None {
			one := *found
			one.File, one.tier = m.Path, tier
			out.Found = append(out.Found, one)
		}
	}
	return out
}

func contentOf(file *proc.File) content {
	f, err := binfile.Open(file, file.Size)
	if err != nil {
		return content{}
	}
	digest, err := index.Digest(file, file.Size)
	if err != nil {
		return content{}
	}
	return content{Digest: digest, BuildID: f.BuildIDString()}
}

// search is a file that is analyzed when it is first searched. A broken one has no
// function that could be guarded.
type search struct {
	module func() *fingerprint.Module // nil for nothing to search
	path   string
}

func newSearch(file *proc.File, path string) *search {
	var m *fingerprint.Module
	done := false
	return &search{path: path, module: func() *fingerprint.Module {
		if !done {
			done = true
			if f, err := binfile.Open(file, file.Size); err == nil {
				m, _ = fingerprint.Analyze(f)
			}
		}
		return m
	}}
}

func (s *search) find(fp *fingerprint.Fingerprint) *answer {
	m := s.module()
	if m == nil {
		return &answer{}
	}
	a := findInModule(fp, m, s.path)
	if a.tier == fingerprint.None {
		return &answer{} // of what was not found nothing is kept
	}
	return &a
}

func tierNamed(s string) fingerprint.Tier {
	for t := fingerprint.Hint; t <= fingerprint.Auto; t++ {
		if t.String() == s {
			return t
		}
	}
	return fingerprint.None
}

// maxKept bounds how many contents are kept; a machine with more starts anew.
const maxKept = 50_000

func (h *host) save() error {
	if h.store == nil {
		return nil
	}
	if h.changed && len(h.contents) <= maxKept {
		if err := h.store.Write(contentsName, h.revision, h.contents); err != nil {
			return fmt.Errorf("keeping what was found: %w", err)
		}
	}
	for _, a := range h.asked {
		if !a.changed || len(a.answers) > maxKept {
			continue
		}
		if err := h.store.Write(a.name(), h.revision, a.answers); err != nil {
			return fmt.Errorf("keeping what was found: %w", err)
		}
	}
	return nil
}

func processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
