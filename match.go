package pie

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// FingerprintFiles returns the .pf files that the directives name and that the
// prepatch was not given yet, each once. They lie beside its Go files.
func (p *Prepatch) FingerprintFiles() []string {
	var out []string
	for _, g := range p.compiled.Guards {
		if g.Fingerprint != "" && p.fingerprints[g.Fingerprint] == nil && !slices.Contains(out, g.Fingerprint) {
			out = append(out, g.Fingerprint)
		}
	}
	return out
}

// UseFingerprint gives the prepatch the contents of a .pf file: the one that
// guards name so, or with an empty name the one for every guard.
func (p *Prepatch) UseFingerprint(name string, data []byte) error {
	f := decodeFingerprint(name, data)
	if f.err == nil {
		p.useFingerprint(f)
	}
	return f.err
}

// fingerprintFile is a .pf file that was read and found sound. Of a function that was
// found by name only its outline is asked; the whole, several times as large, is made once
// a search takes it.
type fingerprintFile struct {
	name string
	*fingerprint.Outline
	whole func() (*fingerprint.Fingerprint, error)
	err   error // of reading
}

func decodeFingerprint(name string, data []byte) *fingerprintFile {
	outline, err := fingerprint.DecodeOutline(data)
	return &fingerprintFile{name, outline, sync.OnceValues(func() (*fingerprint.Fingerprint, error) {
		fp, err := fingerprint.Decode(data)
		return fp, refuseFingerprint(name, err)
	}), refuseFingerprint(name, err)}
}

// refuseFingerprint refuses what came of reading a .pf file, unless it is nil.
func refuseFingerprint(name string, err error) error {
	if err == nil {
		return nil
	}
	return refuse(CodePrepatch, err, "make it again with pfp create", "the fingerprint %s: %v", name, err)
}

func (p *Prepatch) useFingerprint(f *fingerprintFile) {
	if p.fingerprints == nil {
		p.fingerprints = map[string]*fingerprintFile{}
	}
	p.fingerprints[f.name] = f
}

// fingerprintOf returns the fingerprint of a guard's function, or nil.
func (p *Prepatch) fingerprintOf(g source.Guard) *fingerprintFile {
	if fp := p.fingerprints[""]; fp != nil {
		return fp
	}
	return p.fingerprints[g.Fingerprint]
}

// find locates the function of a guard: by name and, where the images have no
// such name, by fingerprint. A function that the fingerprint shows to have the
// vendor's fix is refused however it was found.
func (r *resolved) find(pp *Prepatch, g source.Guard, o Options) ([]locate.Function, error) {
	q := locate.Query{Exe: g.Exe, Lib: g.Lib, Func: g.Func, Terse: r.terse}
	fp := pp.fingerprintOf(g)
	found, err := r.images.Find(q)
	var unnamed *locate.NotFound
	switch {
	case fp == nil:
		return found, err
	case err == nil:
		return found, r.refuseNamedFixed(found, fp)
	case errors.As(err, &unnamed):
		return r.match(q, fp, o)
	}
	return nil, err
}

// refuseNamedFixed refuses a function that was found by name and has the fix.
func (r *resolved) refuseNamedFixed(found []locate.Function, fp *fingerprintFile) error {
	if !fp.KnowsFix() {
		return nil
	}
	for _, f := range found {
		fix, err := r.known.judge(f.Image.File, fp, f.Vaddr)
		if err != nil {
			continue // the name was enough; there is nothing to compare with
		}
		if fix == fingerprint.FixPresent {
			return refuseFixed(f.Name, f.Image, []string{fmt.Sprintf("at %v is the function as the fingerprint's fixed builds have it", f.Vaddr)})
		}
	}
	return nil
}

// matched is what a fingerprint says about one image.
type matched struct {
	image *locate.Image
	fingerprint.Finding
}

// match finds the function by fingerprint in every image the guard is about.
// It must be in one file only.
func (r *resolved) match(q locate.Query, fp *fingerprintFile, o Options) ([]locate.Function, error) {
	images, err := r.images.Searched(q)
	if err != nil {
		return nil, err
	}
	var found []matched
	best := matched{image: images[0]}
	for _, im := range images {
		f, err := r.known.match(im.File, fp)
		if err != nil && im.IsExe && !errors.Is(err, fingerprint.ErrNoFunctions) {
			return nil, err
		}
		if f.Tier >= fingerprint.Confirm {
			found = append(found, matched{im, f})
		}
		if f.Tier > best.Tier || best.Why == nil {
			best = matched{im, f}
		}
	}
	if err := refuseMatch(q.Func, found, best, o); err != nil {
		return nil, err
	}
	var out []locate.Function
	for _, m := range found {
		how := fmt.Sprintf("fingerprint [%v]: %s", m.Tier, strings.Join(m.Evidence, "; "))
		f, err := locate.At(m.image, q.Func, m.At, m.Size, how)
		if err != nil {
			return nil, err
		}
		out = append(out, *f)
	}
	return out, nil
}

// refuseMatch says why what was found must not be guarded; nil when it may.
func refuseMatch(fn string, found []matched, best matched, o Options) error {
	if len(found) == 0 {
		r := refuse(CodeNoMatch, nil, "make a fingerprint from a build nearer to this one (compiler, optimization, version) and see what pfp find says",
			"%s has no name in %s, and the fingerprint finds nothing that could be answered for", fn, best.image.Name())
		r.Details = best.Why
		if best.Tier == fingerprint.Hint {
			r.Details = append([]string{fmt.Sprintf("a hint only, at %v", best.At)}, append(best.Evidence, best.Why...)...)
		}
		return r
	}
	first := found[0]
	for _, m := range found {
		switch {
		case m.image.File != first.image.File:
			r := refuse(CodeAmbiguous, nil, "say in //pie:guard which one: exe=NAME or lib=SONAME", "the fingerprint of %s fits functions of several files", fn)
			r.Details = []string{placeOf(first.image, first.At), placeOf(m.image, m.At)}
			return r
		case m.Fixed:
			return refuseFixed(fn, m.image, m.Evidence)
		case m.Tier == fingerprint.Confirm && !o.AcceptMatch:
			r := refuse(CodeUnsure, nil, "look at the evidence; if it convinces you, add --accept-match", "%s is probably %s, which a fingerprint cannot tell alone", placeOf(m.image, m.At), fn)
			for _, e := range m.Evidence {
				r.Details = append(r.Details, "+ "+e)
			}
			for _, e := range m.Why {
				r.Details = append(r.Details, "- "+e)
			}
			return r
		}
	}
	return nil
}

func placeOf(im *locate.Image, v address.Vaddr) string {
	return fmt.Sprintf("the function at %v in %s", v, im.Name())
}

func refuseFixed(fn string, im *locate.Image, evidence []string) error {
	r := refuse(CodeFixed, nil, "nothing needs to be done: this build has the vendor's fix", "%s in %s is already fixed", fn, im.Name())
	r.Details = evidence
	return r
}
