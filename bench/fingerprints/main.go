// Command fingerprints measures how often package fingerprint finds a function
// again, and how often it names a wrong one.
//
//	bench/fingerprints/corpus.sh
//	go run ./bench/fingerprints [-from held] [-each N] [-only SET] [-cache DIR]
//
// One question is one function of one build, looked for in another build whose
// symbols are not looked at. It is asked with the function there and with it taken
// out; of programs whose symbols are known whole, also for functions that the other
// build really has not, as they were inlined or never compiled. The truth is the
// symbol's name; a clone of a function (.constprop, .isra), whose arguments are
// others, is another function. Half of all answers must therefore be an abstention.
//
// A build is read once and all its functions are asked for; programs are spread over
// the processors. -part, -time and -tally make pieces.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"
)

type options struct {
	each, least, most, jobs int
	cache, only, part       string
	from                    string // the part of the corpus; "" for all
	tally                   string // where counts are kept between runs; "" for nowhere
	time                    time.Duration
	answers                 io.Writer // answers, a line each; nil for none
	right                   bool      // right answers too
	whole                   bool      // fingerprints carry their builds whole
	behaviour               bool      // and what their functions do
}

func main() {
	var o options
	var answers, profile string
	flag.IntVar(&o.each, "each", 1<<30, "ask for at most this many functions of each pair of builds")
	flag.IntVar(&o.least, "min", 10, "leave out functions of fewer instructions")
	flag.IntVar(&o.most, "max", 1<<30, "leave out functions of more instructions")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "programs that are measured at once")
	flag.StringVar(&o.cache, "cache", defaultCache(), "where corpus.sh put its files")
	flag.StringVar(&o.from, "from", "", "only this part of the corpus: release, held, fresh, exam, second, source, held-source, fresh-source, last-source")
	flag.StringVar(&o.only, "only", "", "only pairs whose set or file name contains this")
	flag.StringVar(&o.tally, "tally", "", "keep the counts in this `FILE`: a second run goes on where the first ended")
	flag.DurationVar(&o.time, "time", 0, "begin no pair after this time")
	flag.StringVar(&o.part, "part", "", "measure this part of the programs: `I/N`, I from 0")
	flag.StringVar(&answers, "answers", "", "add every wrong answer to this `FILE`")
	flag.BoolVar(&o.right, "right", false, "add right answers too")
	flag.BoolVar(&o.whole, "whole", false, "fingerprints carry their builds whole, as pfp create --whole makes them")
	flag.BoolVar(&o.behaviour, "behaviour", false, "fingerprints carry what functions do, as pfp create --behaviour makes them")
	flag.StringVar(&profile, "cpuprofile", "", "write a profile to this `FILE`")
	flag.Parse()
	debug.SetGCPercent(400) // memory for time
	if err := run(o, answers, profile); err != nil {
		fmt.Fprintln(os.Stderr, "fingerprints:", err)
		os.Exit(1)
	}
}

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

func run(o options, answers, profile string) error {
	if answers != "" {
		f, err := os.OpenFile(answers, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		o.answers = f
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	pairs, err := wanted(o)
	if err != nil {
		return err
	}
	k, err := load(o.tally)
	if err != nil {
		return err
	}
	m := &measurement{options: o, kept: k, begin: time.Now()}
	if err := m.all(pairs); err != nil {
		return err
	}
	m.Results.print(os.Stdout)
	return nil
}

// wanted lists the pairs that the options ask for.
func wanted(o options) ([]pair, error) {
	pairs, err := corpus(o.cache)
	if err != nil {
		return nil, err
	}
	part, parts := 0, 1
	if _, err := fmt.Sscanf(o.part, "%d/%d", &part, &parts); o.part != "" && (err != nil || parts < 1) {
		return nil, fmt.Errorf("-part %s: write 0/4 for the first of four", o.part)
	}
	pairs = slices.DeleteFunc(pairs, func(p pair) bool {
		return !strings.Contains(p.set+" "+p.bin, o.only) || o.from != "" && o.from != p.from || partOf(p)%parts != part
	})
	if len(pairs) == 0 {
		return nil, fmt.Errorf("nothing to measure in %s; run bench/fingerprints/corpus.sh", o.cache)
	}
	return pairs, nil
}

// partOf spreads programs over the parts of a measurement that several processes
// make.
func partOf(p pair) int {
	h := fnv.New32a()
	fmt.Fprint(h, filepath.Base(filepath.Dir(p.bin)))
	return int(h.Sum32() >> 1)
}

// measurement is one run.
type measurement struct {
	options
	begin time.Time
	mu    sync.Mutex // of what follows
	kept
}

// all measures the programs, several at once.
func (m *measurement) all(pairs []pair) error {
	var programs [][]pair
	for _, p := range pairs {
		if n := len(programs); n > 0 && filepath.Dir(programs[n-1][0].bin) == filepath.Dir(p.bin) {
			programs[n-1] = append(programs[n-1], p)
		} else {
			programs = append(programs, []pair{p})
		}
	}
	work, errs := make(chan []pair), make(chan error, m.jobs)
	for range m.jobs {
		go func() {
			var err error
			for pairs := range work {
				err = errors.Join(err, m.program(pairs))
			}
			errs <- err
		}()
	}
	for _, p := range programs {
		work <- p
	}
	close(work)
	var err error
	for range m.jobs {
		err = errors.Join(err, <-errs)
	}
	return err
}

// program asks the questions about one program that were not asked yet, by what the
// fingerprints are made from.
func (m *measurement) program(pairs []pair) error {
	var order []string
	by := map[string][]pair{}
	for _, p := range pairs {
		if m.asked(p) {
			continue
		}
		refs := strings.Join(p.refs, " ")
		if by[refs] == nil {
			order = append(order, refs)
		}
		by[refs] = append(by[refs], p)
	}
	opened := builds{}
	for _, refs := range order {
		if m.time > 0 && time.Since(m.begin) > m.time {
			return nil
		}
		if err := m.group(opened, by[refs]); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) group(opened builds, pairs []pair) error {
	var g group
	for _, path := range pairs[0].refs {
		r, err := opened.open(path)
		if err != nil {
			return err
		}
		g.refs = append(g.refs, r)
	}
	var asked []pair // not where both are one file, as two Debian releases may have it
	for _, p := range pairs {
		b, err := opened.open(p.bin)
		if err != nil {
			return err
		}
		t := &target{build: b, set: p.set, results: results{}}
		if id := b.module.BuildID; id == "" || !slices.ContainsFunc(g.refs, func(r *build) bool { return r.module.BuildID == id }) {
			g.targets = append(g.targets, t)
			asked = append(asked, p)
		}
	}
	start := time.Now()
	g.ask(m.options)
	return m.note(asked, &g, time.Since(start))
}

// note keeps what a group brought.
func (m *measurement) note(pairs []pair, g *group, took time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for i, t := range g.targets {
		m.Done[pairs[i].key()] = true
		for set, r := range t.results {
			n += r.questions()
			m.Results.of(pairs[i].from + ": " + set).add(r)
		}
		if m.answers != nil {
			if _, err := fmt.Fprint(m.answers, t.lines.String()); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%s in %d builds: %d questions, %.1f s\n", g.refs[0].label, len(pairs), n, took.Seconds())
	return m.save(m.tally)
}

func (m *measurement) asked(p pair) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Done[p.key()]
}

// kept is what is kept between runs.
type kept struct {
	Results results
	Done    map[string]bool // pairs
}

func load(path string) (kept, error) {
	k := kept{results{}, map[string]bool{}}
	b, err := os.ReadFile(path)
	switch {
	case path == "" || errors.Is(err, os.ErrNotExist):
		return k, nil
	case err == nil:
		err = json.Unmarshal(b, &k)
	}
	return k, err
}

func (k *kept) save(path string) error {
	if path == "" {
		return nil
	}
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// results are the tallies by part of the corpus and set.
type results map[string]*tally

func (r results) of(set string) *tally {
	if r[set] == nil {
		r[set] = &tally{}
	}
	return r[set]
}

func (r results) print(w io.Writer) {
	sets := slices.SortedFunc(maps.Keys(r), func(a, b string) int { return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a, b)) })
	fmt.Fprintln(w, "| set | functions | same code only | HINT | CONFIRM | AUTO | AUTO, of single code | absent | HINT | CONFIRM | AUTO | AUTO wrong | at most |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	var all tally
	for _, s := range sets {
		r[s].row(w, s)
		all.add(r[s])
	}
	all.row(w, "all")
	fmt.Fprintf(w, "\n%d questions; besides, identical code under another name: %d (CONFIRM %d, AUTO %d); a clone of the function: %d (CONFIRM %d, AUTO %d)\n", all.questions(),
		all.Identical[0], all.Identical[auto-1], all.Identical[auto], all.Clones[0], all.Clones[auto-1], all.Clones[auto])
}
