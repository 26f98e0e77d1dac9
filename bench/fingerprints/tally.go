package main

import (
	"fmt"
	"io"
	"math"

	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
)

const auto = fingerprint.Auto

// tally counts answers. Counters by tier count answers of at least that tier.
type tally struct {
	There, Absent int // questions
	Right, Wrong  [4]int
	// Single are, of There, functions whose code no other function has, here and in the
	// reference, and SingleAuto those of them found with AUTO: others can never be.
	Single, SingleAuto int
	// SameCode are answers, right and wrong, when the only thing asked is whether one
	// function has the reference's code: what signatures of code without its
	// addresses find, as FLIRT's are.
	SameCode [2]int
	// Invented are names for a function that is absent.
	Invented [4]int
	// Identical are answers whose code is byte for byte that of the reference, texts
	// and imports too, under another name. Nothing in the two could tell.
	Identical [4]int
	// Clones are answers that name what the compiler made of the function (.part,
	// .isra, .constprop), whose arguments may be others.
	Clones [4]int
}

func (t *tally) questions() int { return t.There + t.Absent }

func (t *tally) add(o *tally) {
	t.There += o.There
	t.Absent += o.Absent
	t.Single += o.Single
	t.SingleAuto += o.SingleAuto
	for i := range t.SameCode {
		t.SameCode[i] += o.SameCode[i]
	}
	for i := range t.Right {
		t.Right[i] += o.Right[i]
		t.Wrong[i] += o.Wrong[i]
		t.Invented[i] += o.Invented[i]
		t.Identical[i] += o.Identical[i]
		t.Clones[i] += o.Clones[i]
	}
}

// wrong counts the answers of at least a tier that name another function.
func (t *tally) wrong(tier fingerprint.Tier) int {
	return t.Wrong[tier] + t.Invented[tier] + t.Identical[tier] + t.Clones[tier]
}

func (t *tally) row(w io.Writer, name string) {
	share := func(n int) float64 { return float64(n) / float64(max(t.There, 1)) }
	cell := func(tier fingerprint.Tier) string {
		return fmt.Sprintf("%.3f/%d", share(t.Right[tier]), t.Wrong[tier])
	}
	single := float64(t.SingleAuto) / float64(max(t.Single, 1))
	fmt.Fprintf(w, "| %s | %d | %.3f/%d | %s | %s | %s | %.3f | %d | %d | %d | %d | %d | %.2g |\n", name, t.There, share(t.SameCode[0]), t.SameCode[1],
		cell(fingerprint.Hint), cell(fingerprint.Confirm), cell(auto), single,
		t.Absent, t.Invented[fingerprint.Hint], t.Invented[fingerprint.Confirm], t.Invented[auto], t.wrong(auto), bound(t.wrong(auto), t.questions()))
}

// count notes an answer at its tier and all lower ones.
func count(c *[4]int, tier fingerprint.Tier) {
	for i := fingerprint.None; i <= tier; i++ {
		c[i]++
	}
}

// bound is the upper end of the one-sided 95 % interval for the rate of an event
// that was seen n times: exact for the Poisson distribution, found by bisection.
func bound(n, of int) float64 {
	if of == 0 {
		return 1
	}
	lo, hi := float64(n), float64(n)*2+20
	for range 60 {
		mid := (lo + hi) / 2
		term := math.Exp(-mid)
		atMost := term
		for k := 1; k <= n; k++ {
			term *= mid / float64(k)
			atMost += term
		}
		if atMost > .05 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi / float64(of)
}
