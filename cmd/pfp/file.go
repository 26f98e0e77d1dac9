package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
)

// elfFile is an open ELF file.
type elfFile struct {
	*binfile.File
	closer io.Closer
}

// openELF opens a regular file. It is looked at before it is opened: opening a
// pipe would wait, and a device may do something.
func openELF(path string) (*elfFile, error) {
	file, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	f, err := binfile.OpenToRead(file, size)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &elfFile{f, file}, nil
}

func (f *elfFile) close() { f.closer.Close() }

func openRegular(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: not a regular file", path)
	}
	file, err := os.Open(path)
	return file, info.Size(), err
}

// maxFingerprint bounds a .pf file, in bytes.
const maxFingerprint = 16 << 20

func readFingerprint(path string) (*fingerprint.Fingerprint, error) {
	file, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > maxFingerprint {
		return nil, fmt.Errorf("%s: %w", path, fingerprint.ErrNotFingerprint)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(file, b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	fp, err := fingerprint.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return fp, nil
}

// maxSearchedFiles bounds how many files of a folder are looked at.
const maxSearchedFiles = 100_000

// programsIn lists the regular files of a folder and below; links are not
// followed.
func programsIn(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil
		case err != nil:
			return err
		case !d.Type().IsRegular():
			return nil
		case len(out) == maxSearchedFiles:
			return fmt.Errorf("%s holds more than %d files", dir, maxSearchedFiles)
		}
		out = append(out, p)
		return nil
	})
	return out, err
}
