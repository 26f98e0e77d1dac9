package fingerprint

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// program is a build of testdata/shop.c, or of another source.
type program struct {
	*Module
	t     testing.TB
	names map[string]address.Vaddr
}

// build compiles shop.c.
func build(t testing.TB, flags ...string) *program {
	t.Helper()
	return compiled(t, "testdata/shop.c", flags...)
}

// compiled compiles a program; its names are the truth, and not in the module.
func compiled(t testing.TB, source string, flags ...string) *program {
	t.Helper()
	out := filepath.Join(t.TempDir(), "shop")
	run(t, "gcc", append(flags, "-o", out, source)...)
	p := &program{t: t, names: map[string]address.Vaddr{}}
	all, err := openFile(t, out).Functions()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, n := range f.Names {
			p.names[n] = f.Start
		}
	}
	run(t, "strip", out)
	if p.Module, err = Analyze(openFile(t, out)); err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v (are gcc and binutils installed? scripts/setup installs them)\n%s", name, args, err, out)
	}
}

func openFile(t testing.TB, path string) *binfile.File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := binfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (p *program) at(name string) address.Vaddr {
	p.t.Helper()
	v, ok := p.names[name]
	if !ok {
		p.t.Fatalf("no function %s", name)
	}
	return v
}

func (p *program) build(name string, fixed bool) Build {
	return Build{Label: "shop", Module: p.Module, At: p.at(name), Fixed: fixed}
}

func create(t testing.TB, name string, builds ...Build) *Fingerprint {
	t.Helper()
	fp, err := Create(name, builds)
	if err != nil {
		t.Fatal(err)
	}
	return fp
}

func TestFindsWhatIsThereAndAbstainsOtherwise(t *testing.T) {
	ref := build(t, "-O2")
	fp := create(t, "parse_line", ref.build("parse_line", false))
	for _, c := range []struct {
		name  string
		flags []string
		least Tier
	}{
		{"same build", []string{"-O2"}, Auto},
		{"fixed address, more code around", []string{"-O2", "-no-pie", "-fcf-protection=none"}, Auto},
		{"static functions reordered", []string{"-O2", "-fno-toplevel-reorder"}, Auto},
		{"other tuning", []string{"-O2", "-mtune=intel"}, Hint},
		{"O3", []string{"-O3"}, Hint},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := build(t, c.flags...)
			f := p.Find(fp)
			if f.Tier < c.least || f.At != p.at("parse_line") {
				t.Errorf("got %v at %v, want %v or better at %v\n%v\n%v", f.Tier, f.At, c.least, p.at("parse_line"), f.Evidence, f.Why)
			}
		})
	}
	for _, flags := range [][]string{{"-O2", "-DGONE"}, {"-O3", "-DGONE"}, {"-Os", "-DGONE"}, {"-O1", "-DGONE"}} {
		if f := build(t, flags...).Find(fp); f.Tier > Hint {
			t.Errorf("%v: got %v %v for a function that is not there: %v", flags, f.Tier, f.At, f.Evidence)
		}
	}
}

func TestNeverNamesAnotherFunction(t *testing.T) {
	ref := build(t, "-O2")
	for _, flags := range [][]string{{"-O2"}, {"-O1"}, {"-O3"}, {"-Os"}, {"-O2", "-fno-inline", "-fno-omit-frame-pointer"}} {
		p := build(t, flags...)
		for name := range ref.names {
			fp, err := Create(name, []Build{ref.build(name, false)})
			if err != nil {
				continue // too small
			}
			if f := p.Find(fp); f.Tier >= Confirm && f.At != p.at(name) {
				t.Errorf("%v: %s at %v, which is at %v: %v %v", flags, name, f.At, p.at(name), f.Tier, f.Evidence)
			}
			if f := p.Search(fp).Without([]address.Vaddr{p.names[name]}); f.Tier >= Confirm {
				t.Errorf("%v: %s taken out: %v at %v: %v", flags, name, f.Tier, f.At, f.Evidence)
			}
		}
	}
}

// An index only makes it faster.
func TestIndexAnswersTheSame(t *testing.T) {
	ref, other := build(t, "-O2"), build(t, "-O3")
	for _, p := range []*program{build(t, "-O2", "-mtune=intel"), build(t, "-O1")} {
		plain, err := Analyze(p.file)
		if err != nil {
			t.Fatal(err)
		}
		p.Index()
		for name := range ref.names {
			builds := []Build{ref.build(name, false)}
			if _, ok := other.names[name]; ok {
				builds = append(builds, other.build(name, false))
			}
			fp, err := Create(name, builds)
			if err != nil {
				continue // too small
			}
			if a, b := p.Find(fp), plain.Find(fp); !reflect.DeepEqual(a, b) {
				t.Errorf("%s: with an index %+v\nwithout %+v", name, a, b)
			}
		}
	}
}

func TestSameCodeTwiceIsNotTakenForOne(t *testing.T) {
	ref := build(t, "-O2", "-fno-ipa-icf")
	fp := create(t, "twin_a", ref.build("twin_a", false))
	f := build(t, "-O2", "-fno-ipa-icf", "-no-pie").Find(fp)
	if f.Tier > Hint {
		t.Errorf("got %v at %v", f.Tier, f.At)
	}
	if !slices.ContainsFunc(f.Why, func(s string) bool { return strings.Contains(s, "exactly this code") }) {
		t.Errorf("the reason is not told: %v", f.Why)
	}
}

// Of two functions with the same code a person has to choose, also where what calls
// them tells which is meant; and both are named.
func TestTwinsToldApartByTheirCallersAreNotTakenUnasked(t *testing.T) {
	told := []string{"-O2", "-fno-ipa-icf", "-DTOLD"}
	ref, p := build(t, told...), build(t, append(told, "-fno-toplevel-reorder")...)
	for name, twin := range map[string]string{"twin_a": "twin_b", "twin_b": "twin_a"} {
		fp := create(t, name, ref.build(name, false))
		f := p.Find(fp)
		if f.Tier == Auto || f.Tier == Confirm && f.At != p.at(name) {
			t.Errorf("%s, which is at %v: got %v at %v: %v", name, p.at(name), f.Tier, f.At, f.Why)
		}
		if f.Tier > None && !slices.ContainsFunc(f.Rivals, func(r Rival) bool { return r.At == p.at(twin) || f.At == p.at(twin) }) {
			t.Errorf("%s: the twin at %v is not named: %+v", name, p.at(twin), f.Rivals)
		}
		if f := p.Search(fp).Without([]address.Vaddr{p.at(name)}); f.Tier > Hint {
			t.Errorf("%s taken out: %v at %v", name, f.Tier, f.At)
		}
	}
}

// Where a compiler folded two functions, either may be the one that is meant.
func TestFoldedCodeIsNotTakenUnasked(t *testing.T) {
	plain, folded := build(t, "-O2"), build(t, "-O2", "-DFOLDED")
	for _, c := range []struct{ from, in *program }{{plain, folded}, {folded, plain}} {
		fp := create(t, "parse_line", c.from.build("parse_line", false))
		if f := c.in.Find(fp); f.Tier != Confirm || f.At != c.in.at("parse_line") {
			t.Errorf("got %v at %v, want CONFIRM at %v: %v", f.Tier, f.At, c.in.at("parse_line"), f.Why)
		}
	}
}

// Of functions that differ in what they call, another one may have the code alone that was
// the target's alone: what is called tells.
func TestSameCodeThatCallsAnotherIsNotTakenUnasked(t *testing.T) {
	old, mended := build(t, "-O2", "-DKIN=1"), build(t, "-O2", "-DKIN=2")
	fp := create(t, "save_names", mended.build("save_names", false))
	absent := []address.Vaddr{old.at("save_names")}
	if same := old.Search(fp).Identical(absent); fp.References[0].Twins != 1 || len(same) != 1 || same[0] != old.at("save_total") {
		t.Fatalf("%d functions, then %v have the code, want save_names' alone, then %v", fp.References[0].Twins, same, old.at("save_total"))
	}
	if f := old.Search(fp).Without(absent); f.Tier == Auto {
		t.Errorf("got %v at %v, which is not at %v: %v", f.Tier, f.At, absent, f.Evidence)
	}
	fp = create(t, "save_names", old.build("save_names", false))
	if f := mended.Find(fp); f.Tier > Confirm || f.Tier > None && f.At != mended.at("save_names") {
		t.Errorf("got %v at %v, want %v: %v", f.Tier, f.At, mended.at("save_names"), f.Why)
	}
}

// A build that the fingerprint was made from is known by its build ID, where the
// code is what it was.
func TestKnownBuild(t *testing.T) {
	p := build(t, "-O2", "-fno-ipa-icf", "-Wl,--build-id=0x1234")
	fp := create(t, "twin_a", p.build("twin_a", false))
	if f := p.Find(fp); f.Tier != Auto || f.At != p.at("twin_a") {
		t.Errorf("the build itself: got %v at %v", f.Tier, f.At)
	}
	forged := build(t, "-O1", "-fno-ipa-icf", "-Wl,--build-id=0x1234")
	if f := forged.Find(fp); f.Tier == Auto && f.At != forged.at("twin_a") {
		t.Errorf("another build with the same build ID: got %v at %v, which is at %v", f.Tier, f.At, forged.at("twin_a"))
	}
}

func TestKnowsTheFixedFunction(t *testing.T) {
	old, fixed := build(t, "-O2"), build(t, "-O2", "-DFIXED")
	fp := create(t, "parse_line", old.build("parse_line", false), fixed.build("parse_line", true))
	if f := fixed.Find(fp); !f.Fixed || f.At != fixed.at("parse_line") {
		t.Errorf("fixed build: %v, fixed %v, at %v: %v", f.Tier, f.Fixed, f.At, f.Why)
	}
	if f := old.Find(fp); f.Fixed || f.Tier != Auto {
		t.Errorf("old build: %v, fixed %v: %v", f.Tier, f.Fixed, f.Why)
	}
	moved := build(t, "-O2", "-DFIXED", "-no-pie")
	if f := moved.Find(fp); f.Tier > Hint && !f.Fixed && !f.Undecided {
		t.Errorf("fixed build with other options counts as vulnerable: %v", f.Evidence)
	}
}

func TestDiffTellsWhatChanged(t *testing.T) {
	old, fixed := build(t, "-O2"), build(t, "-O2", "-DFIXED")
	d := Diff(old.Module, fixed.Module)
	if len(d.Changes) != 1 || d.Changes[0].What != Changed || d.Changes[0].Old != old.at("parse_line") || d.Changes[0].New != fixed.at("parse_line") {
		t.Errorf("got %+v", d)
	}
	gone := Diff(old.Module, build(t, "-O2", "-DGONE").Module)
	if !slices.ContainsFunc(gone.Changes, func(c Change) bool { return c.What == Removed && c.Old == old.at("parse_line") }) {
		t.Errorf("a function that is gone is not told: %+v", gone)
	}
}

func TestTooSmallIsRefused(t *testing.T) {
	p := build(t, "-O2")
	_, err := Create("tiny", []Build{p.build("tiny", false)})
	var small *TooSmall
	if !errors.As(err, &small) {
		t.Errorf("a function of few instructions: %v", err)
	}
	if _, err := Create("f", []Build{{Module: p.Module, At: 3}}); !errors.Is(err, ErrNotThere) {
		t.Errorf("no function there: %v", err)
	}
	if _, err := Create("f", []Build{p.build("parse_line", true)}); err == nil {
		t.Error("only builds with the fix: no error")
	}
}

func TestFileGivesBackTheFingerprint(t *testing.T) {
	a, b := build(t, "-O2"), build(t, "-Os")
	fp := create(t, "parse_line", a.build("parse_line", false), b.build("parse_line", true))
	got, err := Decode(fp.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if got.Function != fp.Function || len(got.References) != 2 || !reflect.DeepEqual(got.Texts, fp.Texts) {
		t.Errorf("got %+v", got)
	}
	for i := range fp.References {
		want, have := fp.References[i], got.References[i]
		if have.At != want.At || !reflect.DeepEqual(have.Sketch, want.Sketch) || have.Fixed != want.Fixed || have.Twins != want.Twins || have.Target.Exact != want.Target.Exact ||
			len(have.Callers) != len(want.Callers) || len(have.Target.Features) != len(want.Target.Features) {
			t.Errorf("build %d: got %+v", i, have)
		}
	}
	if again := got.Encode(); len(again) > len(fp.Encode())+64 {
		t.Errorf("encoded again: %d bytes of %d", len(again), len(fp.Encode()))
	}
	if f, g := a.Find(fp), a.Find(got); f.At != g.At || f.Tier != g.Tier {
		t.Errorf("found differently: %v at %v, %v at %v", f.Tier, f.At, g.Tier, g.At)
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	p := build(t, "-O2")
	good := create(t, "parse_line", p.build("parse_line", false)).Encode()
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, err := Decode(bad); err == nil {
			t.Fatalf("byte %d changed: no error", i)
		}
		if i%7 == 0 {
			if _, err := Decode(good[:i]); err == nil {
				t.Fatalf("cut off after %d: no error", i)
			}
		}
	}
	other := slices.Clone(good)
	other[len(magic)] = version + 1
	var v *VersionError
	if _, err := Decode(other); !errors.As(err, &v) {
		t.Errorf("another version: %v", err)
	}
}

// content is what a file has behind its header, inflated.
func content(fp *Fingerprint) []byte {
	w := &writer{shares: map[Feature]float64{}, index: map[Feature]uint64{}}
	w.fingerprint(fp)
	return w.b
}

// FuzzContent gives the reader arbitrary content behind a right header and
// searches with what it takes.
func FuzzContent(f *testing.F) {
	p := build(f, "-O2")
	fp := create(f, "parse_line", p.build("parse_line", false))
	at := p.at("parse_line")
	f.Add(append(content(fp), wholeVersion, 0, behaviourVersion, 0)) // no build is there whole, and none was executed
	f.Add(append(content(create(f, "parse_line", p.wholeBuild("parse_line"))), behaviourVersion, 0))
	f.Add(content(create(f, "parse_line", p.performing("parse_line"))))
	f.Add([]byte("\x01f\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, o := &reader{b: b, version: version}, &reader{b: b, version: version, outline: true}
		fp, outline := r.fingerprint(), o.fingerprint()
		if r.bad != o.bad || len(r.b) != len(o.b) {
			t.Fatalf("the whole is refused with %q and %d bytes over, the outline with %q and %d", r.bad, len(r.b), o.bad, len(o.b))
		}
		if r.bad != "" {
			return
		}
		if p.Fixed(fp.Outline(), at) != p.Fixed(outline.Outline(), at) {
			t.Error("an outline tells otherwise of the fix than the whole")
		}
		p.Find(fp)
		if _, err := Decode(fp.Encode()); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
	})
}

// strippedShop returns the file of a build without symbols.
func strippedShop(t testing.TB) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "shop")
	run(t, "gcc", "-O2", "-s", "-o", out, "testdata/shop.c")
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// FuzzModule changes bytes of a program.
func FuzzModule(f *testing.F) {
	file := strippedShop(f)
	p, q := build(f, "-O2"), build(f, "-O1")
	fp := create(f, "parse_line", p.performing("parse_line"), q.build("parse_line", false), build(f, "-O2", "-DFIXED").build("parse_line", true))
	f.Add(uint32(64), []byte{1})
	for _, c := range hostileChanges(f, file) {
		f.Add(c.at, c.with)
	}
	f.Add(uint32(0x1100), []byte{0xe8, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		b := slices.Clone(file)
		copy(b[int(at)%len(b):], change)
		e, err := binfile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		m, err := Analyze(e)
		if err != nil {
			return
		}
		m.Find(fp)
		Diff(m, p.Module)
	})
}
