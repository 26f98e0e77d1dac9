// Command fingerprints measures how often package fingerprint finds a function
// again, and how often it names a wrong one.
//
//	bench/fingerprints/corpus.sh
//	go run ./bench/fingerprints [-each N] [-min 20] [-cache DIR]
//
// One question is one function of one build, looked for in another build whose
// symbols are not looked at, asked twice: with the function there, and with it
// taken out. The truth is the symbol's name; clones of a function (.constprop, .isra)
// are the function. Every second of the answers, on
// average, must therefore be an abstention.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
)

var (
	each    = flag.Int("each", 200, "ask for at most this many functions of each pair")
	least   = flag.Int("min", 20, "functions of fewer instructions are left out")
	most    = flag.Int("max", 1<<30, "so are those of more")
	cache   = flag.String("cache", defaultCache(), "where corpus.sh put its files")
	verbose = flag.Bool("v", false, "print every answer that is not right and AUTO")
	only    = flag.String("only", "", "only sets or files whose name contains this")
)

func defaultCache() string {
	if dir := os.Getenv("PIE_TEST_CACHE"); dir != "" {
		return filepath.Join(dir, "fingerprints")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "pie-test", "fingerprints")
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fingerprints:", err)
		os.Exit(1)
	}
}

// pair is a question set: the functions of refs, looked for in bin.
type pair struct {
	set  string
	refs []string
	bin  string
}

func run() error {
	pairs, err := findPairs()
	if err != nil {
		return err
	}
	if len(pairs) == 0 {
		return fmt.Errorf("nothing to measure in %s; run bench/fingerprints/corpus.sh", *cache)
	}
	results := map[string]*tally{}
	var order []string
	for _, p := range pairs {
		if !strings.Contains(p.set+p.bin, *only) {
			continue
		}
		if results[p.set] == nil {
			results[p.set] = &tally{}
			order = append(order, p.set)
		}
		start := time.Now()
		before := results[p.set].asked
		if err := ask(p, results[p.set]); err != nil {
			return fmt.Errorf("%s: %w", p.bin, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %s: %d questions, %.0f s\n", p.set, strings.TrimPrefix(p.bin, *cache), 2*(results[p.set].asked-before), time.Since(start).Seconds())
	}
	print(order, results)
	return nil
}

func print(order []string, results map[string]*tally) {
	fmt.Println("| set | functions | HINT or better | CONFIRM or better | AUTO | absent: HINT | CONFIRM | AUTO | identical |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	var all tally
	for _, name := range order {
		results[name].row(name)
		all.add(results[name])
	}
	all.row("all")
	fmt.Printf("\n%d questions; AUTO %d wrong: at 95 %% confidence fewer than %.5f of all questions\n", 2*all.asked, all.wrong[fingerprint.Auto]+all.absent[fingerprint.Auto], bound(all.wrong[fingerprint.Auto]+all.absent[fingerprint.Auto], 2*all.asked))
}

// bound is the upper end of the one-sided 95 % interval of a rate: the rule of
// three for none, else the normal approximation of Poisson's.
func bound(wrong, of int) float64 {
	if wrong == 0 {
		return 3 / float64(max(of, 1))
	}
	w := float64(wrong)
	return (w + 1.645*math.Sqrt(w) + 2) / float64(of)
}

// tally counts answers; by tier, at least.
type tally struct {
	asked                int
	right, wrong, absent [4]int
	identical            int // wrong names whose code is byte for byte that of the reference
}

func (t *tally) add(o *tally) {
	t.asked += o.asked
	t.identical += o.identical
	for i := range t.right {
		t.right[i] += o.right[i]
		t.wrong[i] += o.wrong[i]
		t.absent[i] += o.absent[i]
	}
}

func (t *tally) row(name string) {
	cell := func(tier fingerprint.Tier) string {
		return fmt.Sprintf("%.3f/%d", float64(t.right[tier])/float64(max(t.asked, 1)), t.wrong[tier])
	}
	fmt.Printf("| %s | %d | %s | %s | %s | %d | %d | %d | %d |\n", name, t.asked, cell(fingerprint.Hint), cell(fingerprint.Confirm), cell(fingerprint.Auto),
		t.absent[fingerprint.Hint], t.absent[fingerprint.Confirm], t.absent[fingerprint.Auto], t.identical)
}

// count notes an answer at its tier and all lower ones.
func count(c *[4]int, tier fingerprint.Tier) {
	for i := fingerprint.Hint; i <= tier; i++ {
		c[i]++
	}
}

// findPairs lists the question sets of the corpus.
func findPairs() ([]pair, error) {
	var out []pair
	libs, err := filepath.Glob(filepath.Join(*cache, "patch", "*"))
	if err != nil {
		return nil, err
	}
	for _, lib := range libs {
		builds, _ := filepath.Glob(filepath.Join(lib, "*"))
		for i := 1; i < len(builds); i++ {
			out = append(out, pair{"patch releases", builds[i-1 : i], builds[i]})
		}
	}
	for _, kind := range []struct{ set, from, to string }{
		{"gcc 12 to gcc 11, O2", "gcc12-O2", "gcc11-O2"},
		{"gcc O2 to O3", "gcc12-O2", "gcc12-O3"},
		{"gcc O2 to Os", "gcc12-O2", "gcc12-Os"},
		{"gcc O2 to O1", "gcc12-O2", "gcc12-O1"},
		{"gcc 12 to clang 14, O2", "gcc12-O2", "clang14-O2"},
		{"gcc O2 to O2 -flto", "gcc12-O2", "gcc12-O2-lto"},
		{"gcc O1+O2+O3+Os to gcc 11 O2", "gcc12-O1 gcc12-O2 gcc12-O3 gcc12-Os", "gcc11-O2"},
		{"gcc O1+O2+O3 to Os", "gcc12-O1 gcc12-O2 gcc12-O3", "gcc12-Os"},
		{"gcc O1+O2+O3+Os to clang 14", "gcc12-O1 gcc12-O2 gcc12-O3 gcc12-Os", "clang14-O2"},
	} {
		sources, _ := filepath.Glob(filepath.Join(*cache, "source", "*"))
		for _, dir := range sources {
			p := pair{set: kind.set, bin: filepath.Join(dir, kind.to)}
			for _, from := range strings.Fields(kind.from) {
				p.refs = append(p.refs, filepath.Join(dir, from))
			}
			if there(append(p.refs, p.bin)) {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

func there(files []string) bool {
	return !slices.ContainsFunc(files, func(f string) bool {
		_, err := os.Stat(f)
		return err != nil || strings.HasSuffix(f, ".part")
	})
}

// program is a file with its truth.
type program struct {
	names  map[string][]address.Vaddr
	clones map[string][]address.Vaddr // by the name before .constprop, .isra …
	module *fingerprint.Module
}

func open(path string) (*program, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := binfile.Open(strings.NewReader(string(b)), int64(len(b)))
	if err != nil {
		return nil, err
	}
	all, err := f.Functions()
	if err != nil {
		return nil, err
	}
	p := &program{names: map[string][]address.Vaddr{}, clones: map[string][]address.Vaddr{}}
	for _, fn := range all {
		for _, n := range fn.Names {
			n, _, _ = strings.Cut(n, "@")
			p.names[n] = append(p.names[n], fn.Start)
			if base, _, clone := strings.Cut(n, "."); clone {
				p.clones[base] = append(p.clones[base], fn.Start)
			}
		}
	}
	p.module, err = fingerprint.Analyze(f)
	return p, err
}

// ask puts the questions of one pair, on every core.
func ask(p pair, t *tally) error {
	var refs []*program
	for _, path := range p.refs {
		r, err := open(path)
		if err != nil {
			return err
		}
		refs = append(refs, r)
	}
	var names []string
	bin, err := open(p.bin)
	if err != nil {
		return err
	}
	for name := range refs[0].names {
		if asked(name, refs, bin) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var fps []*fingerprint.Fingerprint
	step := max(1, len(names) / *each)
	for i := 0; i < len(names); i += step {
		if fp := create(names[i], refs); fp != nil {
			fps = append(fps, fp)
		}
	}
	return answer(p, fps, bin, t)
}

// asked tells whether a name means one function in every build.
func asked(name string, refs []*program, bin *program) bool {
	for _, r := range refs {
		if len(r.names[name]) != 1 {
			return false
		}
	}
	return len(bin.names[name]) == 1 && !strings.Contains(name, ".")
}

func create(name string, refs []*program) *fingerprint.Fingerprint {
	var builds []fingerprint.Build
	for _, r := range refs {
		builds = append(builds, fingerprint.Build{Label: "reference", Module: r.module, At: r.names[name][0]})
	}
	fp, err := fingerprint.Create(name, builds)
	if err != nil {
		return nil // too small, or inside another
	}
	if n := fp.References[0].Target.Insns; n < *least || n > *most {
		return nil
	}
	return fp
}

func answer(p pair, fps []*fingerprint.Fingerprint, first *program, t *tally) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			bin := first
			if w > 0 {
				var err error
				if bin, err = open(p.bin); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
			}
			for i := w; i < len(fps); i += workers {
				one(p, fps[i], bin, t, &mu)
			}
		}()
	}
	wg.Wait()
	return failed
}

// one asks for one function, with it there and with it taken out.
func one(p pair, fp *fingerprint.Fingerprint, bin *program, t *tally, mu *sync.Mutex) {
	truth := slices.Concat(bin.names[fp.Function], bin.clones[fp.Function])
	with := bin.module.Find(fp)
	without := bin.module.FindWithout(fp, truth)
	mu.Lock()
	defer mu.Unlock()
	t.asked++
	tell := func(what string, f *fingerprint.Finding) {
		if *verbose {
			fmt.Printf("%s: %s: %s for %s: %v %v J %.3f score %.1f margin %.1f exact %v %v %v\n", p.set, filepath.Base(filepath.Dir(p.bin)), what, fp.Function, f.Tier, f.Names, f.Similarity, f.Score, f.Margin, f.Exact, f.Evidence, f.Why)
		}
	}
	switch {
	case with.Tier == fingerprint.None:
	case slices.Contains(truth, with.At):
		count(&t.right, with.Tier)
		if with.Tier < fingerprint.Auto {
			tell("right", &with)
		}
	case with.Exact:
		t.identical++
		tell("identical", &with)
	default:
		count(&t.wrong, with.Tier)
		tell("wrong", &with)
	}
	switch {
	case without.Tier == fingerprint.None:
	case without.Exact:
		t.identical++
		tell("absent, identical", &without)
	default:
		count(&t.absent, without.Tier)
		tell("absent", &without)
	}
}
