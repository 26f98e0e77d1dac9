package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// findOnHost looks in everything that the processes of this machine map. Each
// file is searched once, and what was answered for a build is kept in the index.
func findOnHost(fp *fingerprint.Fingerprint, ix *index) ([]answer, error) {
	pids, err := processes()
	if err != nil {
		return nil, err
	}
	files := locate.NewFiles()
	defer files.Close()
	found := map[*binfile.File]*answer{}
	var order []*binfile.File
	for _, pid := range pids {
		p, err := proc.Open(pid)
		if err != nil {
			continue // it ended
		}
		set, err := files.Images(p)
		p.Close()
		if err != nil {
			continue // no program of ours to read: a kernel thread, another class of ELF
		}
		for _, im := range set.Images {
			a, known := found[im.File]
			if !known {
				if a, err = ix.find(fp, im); err != nil {
					return nil, err
				}
				found[im.File] = a
				order = append(order, im.File)
			}
			if a != nil && !slices.Contains(a.Pids, pid) {
				a.Pids = append(a.Pids, pid)
			}
		}
	}
	var out []answer
	for _, f := range order {
		if a := found[f]; a != nil {
			out = append(out, *a)
		}
	}
	return out, ix.save()
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

// index remembers answers by fingerprint and build, so that the same question
// costs nothing the next time. A build ID can be given to any file, so an entry
// holds for the file only that it was made of, told by inode, size and time of
// change, which no program can set.
type index struct {
	path    string // "" for none
	entries map[string]*answer
	used    map[string]bool
	changed bool
}

const maxIndex = 64 << 20 // bytes

// indexFile is what is written.
type indexFile struct {
	Revision int                `json:"revision"` // of the searching code
	Answers  map[string]*answer `json:"answers"`
}

// openIndex reads the index of a fingerprint from a folder that only its owner
// may write. A file that cannot be read is begun anew.
func openIndex(dir string, fp *fingerprint.Fingerprint) (*index, error) {
	ix := &index{entries: map[string]*answer{}, used: map[string]bool{}}
	if dir == "" {
		return ix, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() || info.Mode().Perm()&0o022 != 0 || !ours(info) {
		return nil, fmt.Errorf("%s: others may write there; name a folder of your own with --cache", dir)
	}
	ix.path = filepath.Join(dir, fp.ID()+".json")
	file, size, err := openRegular(ix.path)
	if err != nil || size > maxIndex {
		return ix, nil
	}
	defer file.Close()
	var f indexFile
	if json.NewDecoder(file).Decode(&f) == nil && f.Revision == fingerprint.Revision && f.Answers != nil {
		ix.entries = f.Answers
	}
	return ix, nil
}

// find answers from the index or by a search; nil when there is nothing to tell.
func (ix *index) find(fp *fingerprint.Fingerprint, im *locate.Image) (*answer, error) {
	id, ok := im.Identity()
	key := fmt.Sprintf("%s %x:%x:%x:%x", im.File.BuildIDString(), id.Dev, id.Inode, id.Size, id.Changed)
	ix.used[key] = true
	a, known := ix.entries[key]
	if !known || !ok {
		b, err := findIn(fp, im.File, im.Path)
		switch {
		case errors.Is(err, fingerprint.ErrNoFunctions):
			b = answer{}
		case err != nil:
			b = answer{} // a broken file has no function that could be guarded
		}
		a = &b
		if ok {
			ix.entries[key], ix.changed = a, true
		}
	}
	if a == nil || a.Tier == "" || a.Tier == fingerprint.None.String() {
		return nil, nil
	}
	out := *a
	out.tier = tierNamed(a.Tier)
	return &out, nil
}

func tierNamed(s string) fingerprint.Tier {
	for t := fingerprint.Hint; t <= fingerprint.Auto; t++ {
		if t.String() == s {
			return t
		}
	}
	return fingerprint.None
}

// save writes the entries of what is mapped now.
func (ix *index) save() error {
	if ix.path == "" {
		return nil
	}
	for key := range ix.entries {
		if !ix.used[key] {
			delete(ix.entries, key)
			ix.changed = true
		}
	}
	if !ix.changed {
		return nil
	}
	b, err := json.Marshal(indexFile{fingerprint.Revision, ix.entries})
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(ix.path), ".index-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // when it was not renamed
	if _, err := tmp.Write(b); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), ix.path)
}

// ours tells whether a file belongs to who runs pfp.
func ours(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
