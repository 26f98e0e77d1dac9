package canary

import (
	"fmt"
	"strconv"
	"strings"
)

// Step says how many processes of a group are guarded before the next step.
type Step struct {
	count int
	share float64 // of the group, when count is 0; 1 is all of it
}

// of is how many of n processes the step is about, at least one.
func (s Step) of(n int) int {
	if s.count > 0 {
		return min(s.count, n)
	}
	return min(n, max(1, int(float64(n)*s.share+0.999)))
}

func (s Step) String() string {
	switch {
	case s.count > 0:
		return strconv.Itoa(s.count)
	case s.share == 1:
		return "all"
	}
	return strconv.FormatFloat(s.share*100, 'g', 4, 64) + "%"
}

// ParseSteps reads "1,10%,all": numbers and shares, of which the last is all.
func ParseSteps(text string) ([]Step, error) {
	var steps []Step
	for _, word := range strings.Split(text, ",") {
		s, err := parseStep(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		if n := len(steps); n > 0 && (steps[n-1].share == 1 || s.count > 0 && steps[n-1].count >= s.count || s.count == 0 && steps[n-1].count == 0 && steps[n-1].share >= s.share) {
			return nil, fmt.Errorf("%q does not come after %q: steps grow, and the last is all", s, steps[n-1])
		}
		steps = append(steps, s)
	}
	if len(steps) > 16 {
		return nil, fmt.Errorf("%d steps; 16 are the most", len(steps))
	}
	if steps[len(steps)-1].share != 1 {
		return nil, fmt.Errorf("the last step is %q; write all behind it", steps[len(steps)-1])
	}
	return steps, nil
}

func parseStep(word string) (Step, error) {
	if word == "all" {
		return Step{share: 1}, nil
	}
	if number, ok := strings.CutSuffix(word, "%"); ok {
		share, err := strconv.ParseFloat(number, 64)
		if err != nil || !(share > 0 && share <= 100) {
			return Step{}, fmt.Errorf("%.40q is no share; write 10%%", word)
		}
		return Step{share: share / 100}, nil
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > 1<<20 {
		return Step{}, fmt.Errorf("%.40q is no step; write a number of processes, a share such as 10%%, or all", word)
	}
	return Step{count: n}, nil
}
