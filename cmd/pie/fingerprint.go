package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/patch-integration-engine/pie"
)

// maxFingerprint bounds a .pf file, in bytes.
const maxFingerprint = 16 << 20

// useFingerprints gives the prepatch the .pf files that its directives name,
// which lie beside it, and the one of --fingerprint. ref is the PREPATCH of the
// command line.
func (f *insertFlags) useFingerprints(p *pie.Prepatch, ref string) error {
	for _, name := range p.FingerprintFiles() {
		path := filepath.Join(folderOf(ref), name)
		err := useFingerprint(p, name, path)
		if errors.Is(err, fs.ErrNotExist) && f.fingerprint != "" {
			continue // the one given is used instead
		}
		if err != nil {
			return err
		}
	}
	if f.fingerprint != "" {
		return useFingerprint(p, "", f.fingerprint)
	}
	return nil
}

// folderOf returns the folder of a prepatch. One that is no file has none, and
// then nothing is read from where pie happens to run.
func folderOf(ref string) string {
	st, err := os.Stat(ref)
	switch {
	case err != nil:
		return os.DevNull
	case st.IsDir():
		return ref
	}
	return filepath.Dir(ref)
}

func useFingerprint(p *pie.Prepatch, name, path string) error {
	st, err := os.Stat(path)
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxFingerprint) {
		err = fmt.Errorf("not a fingerprint of at most %d MiB", maxFingerprint>>20)
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return &pie.Refusal{Code: pie.CodePrepatch, Msg: fmt.Sprintf("reading the fingerprint %s: %v", path, err),
			Instead: "make it with pfp create, beside the prepatch that names it", Err: err}
	}
	return p.UseFingerprint(name, b)
}
