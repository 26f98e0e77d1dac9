package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
)

// program is a file with its truth.
type program struct {
	names  map[string][]address.Vaddr
	clones map[string][]address.Vaddr // by the name before .part, .isra, .constprop
	whole  bool                       // names has every function
	module *fingerprint.Module
}

// open reads a file. Where FILE.stripped exists it is what is searched, and FILE
// has the truth.
func open(path string) (*program, error) {
	f, err := readELF(path)
	if err != nil {
		return nil, err
	}
	all, err := f.Functions()
	if err != nil {
		return nil, err
	}
	p := &program{names: map[string][]address.Vaddr{}, clones: map[string][]address.Vaddr{}}
	for _, fn := range all {
		p.whole = p.whole || fn.From == ".symtab"
		for _, n := range fn.Names {
			n, _, _ = strings.Cut(n, "@")
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
	p.module, err = fingerprint.Analyze(f)
	return p, err
}

func readELF(path string) (*binfile.File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return binfile.Open(strings.NewReader(string(b)), int64(len(b)))
}

// programs keeps the files opened last, as pairs follow each other.
type programs []struct {
	path string
	*program
}

const maxOpen = 6

func (ps *programs) open(path string) (*program, error) {
	for _, p := range *ps {
		if p.path == path {
			return p.program, nil
		}
	}
	p, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(*ps) == maxOpen {
		*ps = (*ps)[1:]
	}
	*ps = append(*ps, struct {
		path string
		*program
	}{path, p})
	return p, nil
}

// ask puts the questions of one pair.
func (ps *programs) ask(o options, p pair, t *tally) error {
	var refs []*program
	for _, path := range p.refs {
		r, err := ps.open(path)
		if err != nil {
			return err
		}
		refs = append(refs, r)
	}
	bin, err := ps.open(p.bin)
	if err != nil {
		return err
	}
	var names []string
	for name := range refs[0].names {
		if one(name, refs) && !strings.Contains(name, ".") && (len(bin.names[name]) == 1 || bin.whole && len(bin.names[name]) == 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	q := &questions{o: o, set: p.set, bin: bin, file: filepath.Base(filepath.Dir(p.bin)) + "/" + filepath.Base(p.bin)}
	for i := range min(len(names), o.each) {
		if fp := create(o, names[i*len(names)/min(len(names), o.each)], refs); fp != nil {
			q.put(fp)
		}
	}
	t.add(&q.tally)
	if o.answers != nil {
		_, err = fmt.Fprint(o.answers, q.lines.String())
	}
	return err
}

// one tells whether a name means one function in every build.
func one(name string, refs []*program) bool {
	return !slices.ContainsFunc(refs, func(r *program) bool { return len(r.names[name]) != 1 })
}

func create(o options, name string, refs []*program) *fingerprint.Fingerprint {
	var builds []fingerprint.Build
	for _, r := range refs {
		builds = append(builds, fingerprint.Build{Label: "reference", Module: r.module, At: r.names[name][0]})
	}
	fp, err := fingerprint.Create(name, builds)
	if err != nil {
		return nil // too small, or inside another
	}
	if n := fp.References[0].Target.Insns; n < o.least || n > o.most {
		return nil
	}
	return fp
}

// questions asks one module.
type questions struct {
	o         options
	set, file string
	bin       *program
	tally     tally
	lines     strings.Builder
}

// put asks for a function with it there and taken out, or once if it is absent.
func (q *questions) put(fp *fingerprint.Fingerprint) {
	truth := q.bin.names[fp.Function]
	if len(truth) > 0 {
		f := q.bin.module.Find(fp)
		q.tally.There++
		switch {
		case f.Tier == fingerprint.None:
		case slices.Contains(truth, f.At):
			count(&q.tally.Right, f.Tier)
			q.tell("right", fp, &f)
		case f.Exact:
			count(&q.tally.Identical, f.Tier)
			q.tell("identical", fp, &f)
		case q.isClone(fp.Function, f.At):
			count(&q.tally.Clones, f.Tier)
			q.tell("clone", fp, &f)
		default:
			count(&q.tally.Wrong, f.Tier)
			q.tell("wrong", fp, &f)
		}
	}
	f := q.bin.module.FindWithout(fp, truth)
	q.tally.Absent++
	switch {
	case f.Tier == fingerprint.None:
	case f.Exact:
		count(&q.tally.Identical, f.Tier)
		q.tell("absent, identical", fp, &f)
	case q.isClone(fp.Function, f.At):
		count(&q.tally.Clones, f.Tier)
		q.tell("absent, clone", fp, &f)
	default:
		count(&q.tally.Invented, f.Tier)
		q.tell("absent", fp, &f)
	}
}

// isClone tells whether what was found is what the compiler made of the function:
// f.part.0, f.isra.0, f.constprop.0.
func (q *questions) isClone(function string, at address.Vaddr) bool {
	return slices.Contains(q.bin.clones[function], at)
}

func (q *questions) tell(what string, fp *fingerprint.Fingerprint, f *fingerprint.Finding) {
	if q.o.answers == nil {
		return
	}
	fmt.Fprintf(&q.lines, "%v\t%s\t%s\t%s\t%s\t%s\tJ %.3f\tscore %.1f\tmargin %.1f\texact %v\taround %d of %d\t%v\t%v\n", f.Tier, what, q.set, q.file, fp.Function,
		strings.Join(f.Names, " "), f.Similarity, f.Score, f.Margin, f.Exact, f.Found, f.Found+f.Missed, f.Evidence, f.Why)
}
