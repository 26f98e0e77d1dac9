package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// findInCore looks in the files that a crashed process had mapped. Each must still
// be what it was: by the build ID in the core's memory. What is not is named in the
// answers, as the function may have been in it.
func findInCore(fp *fingerprint.Fingerprint, path string, core *binfile.Core) ([]answer, error) {
	var out []answer
	seen := map[string]bool{}
	for _, m := range core.Files {
		if m.Off != 0 || seen[m.Path] {
			continue
		}
		id := core.BuildID(m)
		if id == nil {
			continue // no ELF file, or its beginning was not dumped
		}
		seen[m.Path] = true
		a, err := findInMapped(fp, m, id)
		var kind *binfile.UnsupportedError
		switch {
		case errors.Is(err, fingerprint.ErrNoFunctions), errors.As(err, &kind):
			continue
		case err != nil:
			a = answer{File: m.Path, Tier: fingerprint.None.String(), Why: []string{err.Error()}}
		}
		if a.tier > fingerprint.None || err != nil {
			out = append(out, a)
		}
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("%s: a core without the beginnings of its files; dump it with bit 4 of /proc/PID/coredump_filter set", path)
	}
	return out, nil
}

func findInMapped(fp *fingerprint.Fingerprint, m binfile.CoreFile, id []byte) (answer, error) {
	f, err := openMapped(m.Path)
	if errors.Is(err, os.ErrNotExist) {
		return answer{}, fmt.Errorf("the file is not there any more; its build ID is %x", id)
	}
	if err != nil {
		return answer{}, err
	}
	defer f.close()
	if !bytes.Equal(f.BuildID(), id) {
		return answer{}, fmt.Errorf("the file was replaced: build ID %s, in the core %x", f.BuildIDString(), id)
	}
	a, err := findIn(fp, f.File, m.Path)
	if err == nil && a.tier > fingerprint.None {
		if first, ok := f.Vaddr(0, false); ok {
			a.Runtime = a.at.Addr(address.BiasOf(m.Start, first)).String()
		}
	}
	return a, err
}

// openMapped opens a file by the path that a process had chosen: not where somebody
// serves the file system, who could let everybody wait.
func openMapped(path string) (*elfFile, error) {
	self, err := proc.Open(os.Getpid())
	if err != nil {
		return nil, err
	}
	defer self.Close()
	file, err := self.OpenInRoot(path)
	if err != nil {
		return nil, err
	}
	f, err := binfile.OpenToRead(file, file.Size)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &elfFile{f, file}, nil
}
