package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
)

// group is the questions about the functions of some builds of a program: a
// fingerprint is made once, and looked for in every target.
type group struct {
	refs    []*build
	targets []*target
}

// target is a build that is searched.
type target struct {
	*build
	set     string
	asked   map[string]bool // functions to ask for
	results results
	lines   strings.Builder
}

// ask puts the questions of a group.
func (g *group) ask(o options) {
	wanted := map[string]bool{}
	for _, t := range g.targets {
		t.choose(g.refs, o.each)
		maps.Copy(wanted, t.asked)
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		fp := create(o, name, g.refs)
		if fp == nil {
			continue
		}
		for _, t := range g.targets {
			if t.asked[name] {
				t.put(o, fp)
			}
		}
	}
}

// choose takes at most n functions that can be asked for, spread over all.
func (t *target) choose(refs []*build, n int) {
	var names []string
	for name := range refs[0].names {
		if one(name, refs) && !strings.Contains(name, ".") && (len(t.names[name]) == 1 || t.whole && len(t.names[name]) == 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	t.asked = map[string]bool{}
	for i := range min(len(names), n) {
		t.asked[names[i*len(names)/min(len(names), n)]] = true
	}
}

// put asks for a function with it there and taken out, or once if it is absent.
func (t *target) put(o options, fp *fingerprint.Fingerprint) {
	set := t.set
	if fp.References[0].Target.Insns < fewest {
		set = setSmall
	}
	score, truth := t.results.of(set), t.names[fp.Function]
	s := t.module.Search(fp)
	if len(truth) > 0 {
		f := s.Find()
		score.There++
		same := s.Identical(nil)
		if single := fp.References[0].Twins == 1 && len(same) < 2; single {
			score.Single++
			if f.Tier == fingerprint.Auto && slices.Contains(truth, f.At) {
				score.SingleAuto++
			}
		}
		if len(same) == 1 {
			if same[0] == truth[0] {
				score.SameCode[0]++
			} else {
				score.SameCode[1]++
			}
		}
		switch {
		case f.Tier == fingerprint.None:
			t.tell(o, "right", fp, &f)
		case slices.Contains(truth, f.At):
			count(&score.Right, f.Tier)
			t.tell(o, "right", fp, &f)
		default:
			t.wrong(o, &score.Wrong, score, "", fp, &f)
		}
	}
	f := s.Without(truth)
	score.Absent++
	if len(s.Identical(truth)) == 1 {
		score.SameCode[1]++
	}
	if f.Tier != fingerprint.None {
		t.wrong(o, &score.Invented, score, "absent, ", fp, &f)
	}
}

// wrong counts an answer that names another function.
func (t *target) wrong(o options, plain *[4]int, score *tally, when string, fp *fingerprint.Fingerprint, f *fingerprint.Finding) {
	what, counter := "other", plain
	switch {
	case f.Exact:
		what, counter = "identical", &score.Identical
	case slices.Contains(t.clones[fp.Function], f.At):
		what, counter = "clone", &score.Clones
	}
	count(counter, f.Tier)
	t.tell(o, when+what, fp, f)
}

func (t *target) tell(o options, what string, fp *fingerprint.Fingerprint, f *fingerprint.Finding) {
	if o.answers == nil || what == "right" && !o.right {
		return
	}
	fmt.Fprintf(&t.lines, "%v\t%s\t%s\t%s\t%s\t%s\tJ %.3f\tscore %.1f\tmargin %.1f\texact %v\taround %d of %d\t%d insns\t%v\t%v\n", f.Tier, what, t.set, t.label, fp.Function,
		strings.Join(f.Names, " "), f.Similarity, f.Score, f.Margin, f.Exact, f.Found, f.Found+f.Missed, fp.References[0].Target.Insns, f.Evidence, f.Why)
}
