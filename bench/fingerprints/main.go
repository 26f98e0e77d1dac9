// Command fingerprints measures how often package fingerprint finds a function
// again, and how often it names a wrong one.
//
//	bench/fingerprints/corpus.sh
//	go run ./bench/fingerprints [-each N] [-min 20] [-only SET] [-cache DIR]
//
// One question is one function of one build, looked for in another build whose
// symbols are not looked at. It is asked with the function there and with it taken
// out; of programs whose symbols are known whole, also for functions that the other
// build really has not, as they were inlined or never compiled. The truth is the
// symbol's name; a clone of a function (.constprop, .isra), whose arguments are
// others, is another function. Half of all answers must therefore be an abstention.
//
// All of it takes an hour of processor time; -part, -time and -tally make pieces.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type options struct {
	each, least, most int
	cache, only, part string
	tally             string // where counts are kept between runs; "" for nowhere
	time              time.Duration
	answers           io.Writer // every answer, a line each; nil for none
}

func main() {
	var o options
	var answers string
	flag.IntVar(&o.each, "each", 1000, "ask for at most this many functions of each pair of builds")
	flag.IntVar(&o.least, "min", 20, "leave out functions of fewer instructions")
	flag.IntVar(&o.most, "max", 1<<30, "leave out functions of more instructions")
	flag.StringVar(&o.cache, "cache", defaultCache(), "where corpus.sh put its files")
	flag.StringVar(&o.only, "only", "", "only pairs whose set or file name contains this")
	flag.StringVar(&o.tally, "tally", "", "keep the counts in this `FILE`: a second run goes on where the first ended")
	flag.DurationVar(&o.time, "time", 0, "begin no pair after this time")
	flag.StringVar(&o.part, "part", "", "measure this part of the programs: `I/N`, I from 0")
	flag.StringVar(&answers, "answers", "", "write every answer to this `FILE`")
	flag.Parse()
	if err := run(o, answers); err != nil {
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

func run(o options, answers string) error {
	if answers != "" {
		f, err := os.Create(answers)
		if err != nil {
			return err
		}
		defer f.Close()
		o.answers = f
	}
	pairs, err := corpus(o.cache)
	if err != nil {
		return err
	}
	part, parts := 0, 1
	if _, err := fmt.Sscanf(o.part, "%d/%d", &part, &parts); o.part != "" && (err != nil || parts < 1) {
		return fmt.Errorf("-part %s: write 0/4 for the first of four", o.part)
	}
	pairs = slices.DeleteFunc(pairs, func(p pair) bool {
		return !strings.Contains(p.set+" "+p.bin, o.only) || partOf(p)%parts != part
	})
	if len(pairs) == 0 {
		return fmt.Errorf("nothing to measure in %s; run bench/fingerprints/corpus.sh", o.cache)
	}
	r, done, err := load(o.tally)
	if err != nil {
		return err
	}
	files, begin := programs{}, time.Now()
	for _, p := range pairs {
		key := p.set + " " + strings.TrimPrefix(p.bin, o.cache) + " " + strings.TrimPrefix(strings.Join(p.refs, " "), o.cache)
		if done[key] || o.time > 0 && time.Since(begin) > o.time {
			continue
		}
		start, before := time.Now(), r.of(p.set).questions()
		if err := files.ask(o, p, r.of(p.set)); err != nil {
			return fmt.Errorf("%s: %w", p.bin, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %s: %d questions, %.1f s\n", p.set, strings.TrimPrefix(p.bin, o.cache), r.of(p.set).questions()-before, time.Since(start).Seconds())
		done[key] = true
		if err := save(o.tally, r, done); err != nil {
			return err
		}
	}
	r.print(os.Stdout)
	return nil
}

// partOf spreads programs over the parts of a measurement that several processes
// make.
func partOf(p pair) int {
	h := fnv.New32a()
	fmt.Fprint(h, filepath.Base(filepath.Dir(p.bin)))
	return int(h.Sum32() >> 1)
}

// results are the tallies by set.
type results map[string]*tally

// kept is what is kept between runs.
type kept struct {
	Results results
	Done    map[string]bool // pairs
}

func load(path string) (results, map[string]bool, error) {
	k := kept{results{}, map[string]bool{}}
	b, err := os.ReadFile(path)
	switch {
	case path == "" || errors.Is(err, os.ErrNotExist):
		return k.Results, k.Done, nil
	case err == nil:
		err = json.Unmarshal(b, &k)
	}
	return k.Results, k.Done, err
}

func save(path string, r results, done map[string]bool) error {
	if path == "" {
		return nil
	}
	b, err := json.Marshal(kept{r, done})
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func (r results) of(set string) *tally {
	if r[set] == nil {
		r[set] = &tally{Order: len(r)}
	}
	return r[set]
}

func (r results) print(w io.Writer) {
	var sets []string
	for s := range r {
		sets = append(sets, s)
	}
	slices.SortFunc(sets, func(a, b string) int { return cmp.Compare(r[a].Order, r[b].Order) })
	fmt.Fprintln(w, "| set | functions | HINT | CONFIRM | AUTO | absent | HINT | CONFIRM | AUTO | AUTO wrong, at most |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|")
	var all tally
	for _, s := range sets {
		r[s].row(w, s)
		all.add(r[s])
	}
	all.row(w, "all")
	fmt.Fprintf(w, "\n%d questions; besides, identical code under another name: %d (CONFIRM %d, AUTO %d); a clone of the function: %d (CONFIRM %d, AUTO %d)\n", all.questions(),
		all.Identical[0], all.Identical[auto-1], all.Identical[auto], all.Clones[0], all.Clones[auto-1], all.Clones[auto])
}
