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
	order         int
	there, absent int // questions
	right, wrong  [4]int
	// invented are names for a function that is absent.
	invented [4]int
	// identical are answers whose code is byte for byte that of the reference, texts
	// and imports too, under another name. Nothing in the two could tell.
	identical [4]int
	// clones are answers that name what the compiler made of the function (.part,
	// .isra, .constprop), whose arguments may be others.
	clones [4]int
}

func (t *tally) questions() int { return t.there + t.absent }

func (t *tally) add(o *tally) {
	t.there += o.there
	t.absent += o.absent
	for i := range t.right {
		t.right[i] += o.right[i]
		t.wrong[i] += o.wrong[i]
		t.invented[i] += o.invented[i]
		t.identical[i] += o.identical[i]
		t.clones[i] += o.clones[i]
	}
}

func (t *tally) row(w io.Writer, name string) {
	cell := func(tier fingerprint.Tier) string {
		return fmt.Sprintf("%.3f/%d", float64(t.right[tier])/float64(max(t.there, 1)), t.wrong[tier])
	}
	wrong := t.wrong[auto] + t.invented[auto] + t.identical[auto]
	fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %d | %d | %d | %d | %.2g |\n", name, t.there, cell(fingerprint.Hint), cell(fingerprint.Confirm), cell(auto),
		t.absent, t.invented[fingerprint.Hint], t.invented[fingerprint.Confirm], t.invented[auto], bound(wrong, t.questions()))
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
