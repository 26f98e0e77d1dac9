package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
)

// build is one build of a program with its truth.
type build struct {
	label  string // DIRECTORY/FILE
	names  map[string][]address.Vaddr
	clones map[string][]address.Vaddr // by the name before .part, .isra, .constprop
	whole  bool                       // names has every function
	module *fingerprint.Module
}

// open reads a file. Where FILE.stripped exists it is what is searched, and FILE
// has the truth.
func open(path string) (*build, error) {
	f, err := readELF(path)
	if err != nil {
		return nil, err
	}
	all, err := f.Functions()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &build{names: map[string][]address.Vaddr{}, clones: map[string][]address.Vaddr{}}
	for _, fn := range all {
		p.whole = p.whole || fn.From == ".symtab"
		for _, n := range fn.Names {
			n, _, _ = strings.Cut(n, "@")
			n, _, _ = strings.Cut(n, ".lto_priv.") // the function itself, renamed
			if !slices.Contains(p.names[n], fn.Start) {
				p.names[n] = append(p.names[n], fn.Start)
			}
			if base, _, clone := strings.Cut(n, "."); clone {
				p.clones[base] = append(p.clones[base], fn.Start)
			}
		}
	}
	if _, err := os.Stat(path + ".stripped"); err == nil {
		if f, err = readELF(path + ".stripped"); err != nil {
			return nil, err
		}
	}
	if p.module, err = fingerprint.Analyze(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p.module.Index()
	return p, nil
}

func readELF(path string) (*binfile.File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := binfile.Open(strings.NewReader(string(b)), int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// builds are those of one program that were opened.
type builds map[string]*build

func (all builds) open(path string) (*build, error) {
	if b := all[path]; b != nil {
		return b, nil
	}
	b, err := open(path)
	if err != nil {
		return nil, err
	}
	b.label = label(path)
	all[path] = b
	return b, nil
}

// one tells whether a name means one function in every build.
func one(name string, refs []*build) bool {
	return !slices.ContainsFunc(refs, func(r *build) bool { return len(r.names[name]) != 1 })
}

// create makes the fingerprint of a function, or nil where that cannot be: it is too
// small, or inside another.
func create(o options, name string, refs []*build) *fingerprint.Fingerprint {
	var from []fingerprint.Build
	for _, r := range refs {
		from = append(from, fingerprint.Build{Label: "reference", Module: r.module, At: r.names[name][0], Whole: o.whole, Behaviour: o.behaviour})
	}
	fp, err := fingerprint.Create(name, from)
	if err != nil {
		return nil
	}
	if n := fp.References[0].Target.Insns; n < o.least || n > o.most {
		return nil
	}
	return fp
}
