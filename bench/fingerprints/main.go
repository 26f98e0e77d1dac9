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
package main

import (
	"cmp"
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
	r, files := results{}, programs{}
	for _, p := range pairs {
		start, before := time.Now(), r.of(p.set).questions()
		if err := files.ask(o, p, r.of(p.set)); err != nil {
			return fmt.Errorf("%s: %w", p.bin, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %s: %d questions, %.1f s\n", p.set, strings.TrimPrefix(p.bin, o.cache), r.of(p.set).questions()-before, time.Since(start).Seconds())
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

func (r results) of(set string) *tally {
	if r[set] == nil {
		r[set] = &tally{order: len(r)}
	}
	return r[set]
}

func (r results) print(w io.Writer) {
	var sets []string
	for s := range r {
		sets = append(sets, s)
	}
	slices.SortFunc(sets, func(a, b string) int { return cmp.Compare(r[a].order, r[b].order) })
	fmt.Fprintln(w, "| set | functions | HINT | CONFIRM | AUTO | absent | HINT | CONFIRM | AUTO | AUTO wrong, at most |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|")
	var all tally
	for _, s := range sets {
		r[s].row(w, s)
		all.add(r[s])
	}
	all.row(w, "all")
	fmt.Fprintf(w, "\n%d questions; besides, identical code under another name: %d (CONFIRM %d, AUTO %d); a clone of the function: %d (CONFIRM %d, AUTO %d)\n", all.questions(),
		all.identical[0], all.identical[auto-1], all.identical[auto], all.clones[0], all.clones[auto-1], all.clones[auto])
}
