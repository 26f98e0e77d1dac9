package locate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// Find opens the images of a process and finds the function a query names; see
// Set.Find. The files stay open as long as the functions are referred to.
func Find(p Target, q Query) ([]Function, error) {
	set, err := Images(p)
	if err != nil {
		return nil, err
	}
	return set.Find(q)
}

// Find finds the function a query names. Several are returned only where all
// of them have to be guarded, because the same image is mapped more than once.
// Errors: ErrOtherExe, *NoLibrary, *NotFound, *Ambiguous, *Indirect, and those
// of binfile.
func (s *Set) Find(q Query) ([]Function, error) {
	if q.Func == "" {
		return nil, errors.New("no function name given")
	}
	if q.Exe != "" {
		ok, err := s.p.RunsExe(q.Exe)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("pid %d: %w than %s: %s", s.p.Pid(), ErrOtherExe, q.Exe, s.Exe().Path)
		}
	}
	found, err := s.findByImage(q)
	var none *NotFound
	if errors.As(err, &none) {
		found, err = s.findSeparately(q, err)
	}
	if errors.As(err, &none) {
		none.Servers = s.unanswered
		if !q.Terse {
			none.Near, none.Libraries = s.near(q), s.elsewhere(q)
		}
	}
	return found, err
}

// findSeparately looks again, with the symbols of separate debug files. They come
// second: what a program exports is what is meant, and not a static function of
// the same name in some library that has its debug file installed.
func (s *Set) findSeparately(q Query, notFound error) ([]Function, error) {
	s.separately = true
	defer func() { s.separately = false }()
	found, err := s.findByImage(q)
	var none *NotFound
	if errors.As(err, &none) {
		return nil, notFound
	}
	return found, err
}

func (s *Set) findByImage(q Query) ([]Function, error) {
	if q.Lib != "" {
		libs, err := s.libraries(q.Lib)
		if err != nil {
			return nil, err
		}
		return s.findIn(libs, q.Func)
	}
	found, err := s.findIn(s.executables(), q.Func)
	var none *NotFound
	if q.Exe != "" || !errors.As(err, &none) {
		return found, err
	}
	return s.findAnywhere(q, err)
}

func (s *Set) executables() []*Image {
	return slices.DeleteFunc(slices.Clone(s.Images), func(im *Image) bool { return !im.IsExe })
}

// libraries returns the images of a SONAME.
func (s *Set) libraries(soname string) ([]*Image, error) {
	var libs []*Image
	var mapped []string
	for _, im := range s.Images {
		if im.SOName == soname {
			libs = append(libs, im)
		}
		if im.SOName != "" {
			mapped = append(mapped, im.SOName)
		}
	}
	if len(libs) == 0 {
		return nil, &NoLibrary{SOName: soname, Mapped: mapped}
	}
	return libs, nil
}

// findAnywhere looks through the libraries for a function the executable does
// not have; it must be in one of them only.
func (s *Set) findAnywhere(q Query, notInExe error) ([]Function, error) {
	var all []Function
	for _, im := range s.Images {
		if im.IsExe {
			continue
		}
		found, err := s.findIn([]*Image{im}, q.Func)
		var none *NotFound
		if errors.As(err, &none) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, notInExe
	}
	if slices.ContainsFunc(all, func(f Function) bool { return f.Image.File != all[0].Image.File }) {
		return nil, &Ambiguous{Func: q.Func, Candidates: withoutText(all)}
	}
	return all, nil
}

// findIn finds the function in each of the images, all of which must have it.
func (s *Set) findIn(images []*Image, fn string) ([]Function, error) {
	var out []Function
	for _, im := range images {
		f, err := s.findOne(im, fn)
		if err != nil {
			return nil, err
		}
		out = append(out, *f)
	}
	return out, nil
}

func (s *Set) findOne(im *Image, fn string) (*Function, error) {
	t, err := s.tables(im)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", im.Path, err)
	}
	n := parseName(fn)
	c, others, err := s.pick(im, &t, n)
	if err != nil {
		return nil, err
	}
	f := &Function{Name: c.name, Image: im, Vaddr: c.vaddr, Entry: c.vaddr.Addr(im.Bias), How: c.how}
	t.describe(f, n, c, others)
	if err := setText(f, c.size); err != nil {
		return nil, fmt.Errorf("%s in %s: %w", fn, im.Path, err)
	}
	if c.entry != 0 {
		f.How += fmt.Sprintf(", an entry of a jump table at %v that leads here", c.entry)
	}
	return f, nil
}

// pick returns the one address a name means in an image, and the places it
// could have meant.
func (s *Set) pick(im *Image, t *tables, n name) (c candidate, others []candidate, err error) {
	all, err := t.lookup(im.File, n)
	if err != nil {
		return c, nil, fmt.Errorf("%s: %w", im.Path, err)
	}
	if len(all) == 0 {
		return c, nil, &NotFound{Func: n.whole, Image: im.Path}
	}
	chosen, others := choose(all)
	if t.golang != nil {
		for _, c := range chosen {
			if g := t.golang.At(c.vaddr); g != nil && g.Assembly {
				return c, nil, fmt.Errorf("%s in %s: %w", c.name, im.Path, ErrAssembly)
			}
		}
	}
	if len(chosen) > 1 {
		return c, nil, ambiguous(im, n.whole, chosen)
	}
	c = chosen[0]
	if c.indirect {
		c, err = s.resolveIndirect(im, c)
	}
	return c, others, err
}

// choose merges candidates of one address and picks those the name means best:
// the version a link would pick before older ones, a global function before
// static ones. More than one chosen is ambiguous.
func choose(all []candidate) (chosen, others []candidate) {
	var merged []candidate
	for _, c := range all {
		i := slices.IndexFunc(merged, func(m candidate) bool { return m.vaddr == c.vaddr })
		if i < 0 {
			merged = append(merged, c)
			continue
		}
		m := &merged[i]
		m.local = m.local && c.local
		m.older = m.older && c.older
		m.indirect = m.indirect || c.indirect
		m.size = cmp.Or(m.size, c.size)
		m.entry = cmp.Or(m.entry, c.entry)
		m.source = cmp.Or(m.source, c.source)
	}
	rank := func(c candidate) int {
		switch {
		case c.older:
			return 1
		case c.local:
			return 2
		}
		return 0
	}
	best := rank(slices.MinFunc(merged, func(a, b candidate) int { return rank(a) - rank(b) }))
	for _, c := range merged {
		if rank(c) == best {
			chosen = append(chosen, c)
		} else {
			others = append(others, c)
		}
	}
	return chosen, others
}

func ambiguous(im *Image, fn string, chosen []candidate) error {
	e := &Ambiguous{Func: fn}
	for _, c := range chosen {
		how := c.how
		if c.source != "" {
			how = c.source + ", " + how
		}
		e.Candidates = append(e.Candidates, Function{Name: c.name, Image: im, Vaddr: c.vaddr, Entry: c.vaddr.Addr(im.Bias), Size: c.size, How: how})
	}
	return e
}

// describe fills in everything known about names around the function.
func (t *tables) describe(f *Function, n name, c candidate, others []candidate) {
	f.Aliases = t.aliases(c)
	for _, o := range others {
		if o.older {
			f.Copies = append(f.Copies, fmt.Sprintf("%s at %v, another version of the symbol", strings.TrimPrefix(o.how, ".dynsym "), o.vaddr))
		} else {
			f.Others = append(f.Others, fmt.Sprintf("%s at %v in %s", o.name, o.vaddr, cmp.Or(o.source, "another file")))
		}
	}
	for _, base := range slices.Compact([]string{n.base, mangledOf(c)}) {
		clones, parts := t.related(base)
		for _, s := range clones {
			if s.Value != c.vaddr && (n.source == "" || n.source == s.Source) {
				f.Copies = append(f.Copies, fmt.Sprintf("%s at %v", s.Name, s.Value))
			}
		}
		for _, s := range parts {
			f.Parts = append(f.Parts, fmt.Sprintf("%s at %v", s.Name, s.Value))
		}
	}
	if t.golang != nil {
		if g := t.golang.At(c.vaddr); g != nil {
			f.Go = !g.C
		}
	}
}

// mangledOf returns the symbol a candidate was found by.
func mangledOf(c candidate) string {
	_, sym, _ := strings.Cut(c.how, " ")
	sym, _, _ = strings.Cut(sym, "@")
	return sym
}

// aliases lists the other names of the candidate's address.
func (t *tables) aliases(c candidate) []string {
	var out []string
	add := func(s string) {
		if s != "" && s != c.name && s != mangledOf(c) && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for i := range t.dyn {
		if s := &t.dyn[i]; s.Value == c.vaddr && s.IsFunc() {
			add(s.Name)
		}
	}
	for i := range t.sym {
		if s := &t.sym[i]; s.Value == c.vaddr && s.IsFunc() {
			base, _, _ := strings.Cut(s.Name, "@")
			add(base)
		}
	}
	return out
}

func withoutText(all []Function) []Function {
	out := slices.Clone(all)
	for i := range out {
		out[i].Text = nil
	}
	return out
}

func missing(err error) bool { return errors.Is(err, binfile.ErrNoTable) }

// starts returns where functions start in a file, ascending: every FDE, every
// function symbol, every Go function. Tables that are malformed bound nothing.
func starts(f *binfile.File) []address.Vaddr {
	var out []address.Vaddr
	frames, _ := f.Frames()
	for _, r := range frames {
		out = append(out, r.Start)
	}
	dyn, _ := f.DynSymbols()
	sym, _ := f.Symbols()
	for _, syms := range [][]binfile.Symbol{dyn, sym} {
		for i := range syms {
			if syms[i].IsFunc() {
				out = append(out, syms[i].Value)
			}
		}
	}
	if t, err := f.GoTable(); err == nil {
		for i := range t.Funcs {
			out = append(out, t.Funcs[i].Entry)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
