// Package policy reads the agent's policy: a text file that says which prepatch
// is kept where, how, and until when. One rule is one line:
//
//	ID  WHERE…  enforce|audit  [until=YYYY-MM-DD]  [partial]
//
//	CVE-2024-31228  exe=redis-server                    enforce
//	CVE-2024-7347   exe=/usr/sbin/nginx unit=nginx      audit    until=2026-12-31
//	CVE-2024-53580  host                                enforce
//
// WHERE is what TARGET is on the command line: exe=PATH|NAME, unit=U,
// container=ID, all of which must hold, or host. A # begins a comment. A file is
// taken whole or not at all: any mistake is an error with file and line, and the
// rules in force stay.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/operate/target"
)

// Bounds of a policy file.
const (
	maxSize  = 1 << 20 // bytes
	maxRules = 1024
	maxWord  = 4096 // bytes
)

// Policy is the rules of one file, in its order.
type Policy struct {
	Rules []Rule
}

// Rule keeps one prepatch in the processes it names.
type Rule struct {
	ID      string
	Where   target.Spec // without pids and Runs
	Mode    pie.Mode    // enforce or audit
	Until   time.Time   // the rule ends with this day; zero: never
	Partial bool        // guard although some copies of the function stay uncovered
	Line    int
}

// Over tells whether the rule's last day has passed.
func (r Rule) Over(now time.Time) bool {
	return !r.Until.IsZero() && !now.Before(r.Until.AddDate(0, 0, 1))
}

// String is the rule as a policy file has it.
func (r Rule) String() string {
	words := []string{r.ID}
	for _, w := range []struct{ key, value string }{{"exe", r.Where.Exe}, {"unit", r.Where.Unit}, {"container", r.Where.Container}} {
		if w.value != "" {
			words = append(words, w.key+"="+w.value)
		}
	}
	if r.Where.Host {
		words = append(words, "host")
	}
	words = append(words, string(r.Mode))
	if !r.Until.IsZero() {
		words = append(words, "until="+r.Until.Format(time.DateOnly))
	}
	if r.Partial {
		words = append(words, "partial")
	}
	return strings.Join(words, " ")
}

// Error is a mistake in a policy file.
type Error struct {
	File string
	Line int
	Msg  string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// Parse reads a policy. Errors are *Error, joined.
func Parse(file string, text []byte) (*Policy, error) {
	if len(text) > maxSize {
		return nil, &Error{file, 1, fmt.Sprintf("longer than %d KiB", maxSize>>10)}
	}
	p := &Policy{}
	var errs []error
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if len(errs) == 20 {
			break
		}
		rule, err := parseLine(string(line))
		if err == nil && rule != nil {
			rule.Line = number
			err = p.add(*rule)
		}
		if err != nil {
			errs = append(errs, &Error{file, number, err.Error()})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Policy) add(r Rule) error {
	if len(p.Rules) == maxRules {
		return fmt.Errorf("more than %d rules", maxRules)
	}
	for _, o := range p.Rules {
		if strings.EqualFold(o.ID, r.ID) && sameWhere(o.Where, r.Where) {
			return fmt.Errorf("line %d says already what becomes of %s there", o.Line, r.ID)
		}
	}
	p.Rules = append(p.Rules, r)
	return nil
}

func sameWhere(a, b target.Spec) bool {
	return a.Exe == b.Exe && a.Unit == b.Unit && a.Container == b.Container && a.Host == b.Host
}

// parseLine reads one rule; nil for a line without one.
func parseLine(line string) (*Rule, error) {
	line, _, _ = strings.Cut(line, "#")
	if !utf8.ValidString(line) || strings.ContainsFunc(line, func(c rune) bool { return !unicode.IsPrint(c) && !unicode.IsSpace(c) }) {
		return nil, errors.New("a character that cannot be printed")
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil, nil
	}
	r := &Rule{ID: words[0]}
	if len(r.ID) > source.MaxID && idPattern().MatchString(r.ID) {
		return nil, fmt.Errorf("%.80q has more than %d characters, which no id of a prepatch has", r.ID, source.MaxID)
	}
	if !idPattern().MatchString(r.ID) {
		return nil, fmt.Errorf("%.80q is no id of a prepatch; a rule is: ID WHERE enforce|audit [until=YYYY-MM-DD]", r.ID)
	}
	var seen []string
	for _, w := range words[1:] {
		key, err := r.set(w)
		if err != nil {
			return nil, err
		}
		if slices.Contains(seen, key) {
			return nil, fmt.Errorf("%s is said twice", key)
		}
		seen = append(seen, key)
	}
	return r, r.check()
}

var idPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`) })

// set takes one word after the id and returns what it is about.
func (r *Rule) set(word string) (key string, err error) {
	if len(word) > maxWord {
		return "", fmt.Errorf("a word of more than %d characters", maxWord)
	}
	key, value, pair := strings.Cut(word, "=")
	if pair && value == "" {
		return "", fmt.Errorf("%s= has no value", key)
	}
	switch {
	case word == "host":
		r.Where.Host = true
		return "host", nil
	case word == "enforce" || word == "audit":
		r.Mode = pie.Mode(word)
		return "the mode", nil
	case word == "partial":
		r.Partial = true
		return "partial", nil
	case pair && key == "exe":
		r.Where.Exe = value
	case pair && key == "unit":
		r.Where.Unit = value
	case pair && key == "container":
		r.Where.Container = value
	case pair && key == "until":
		if r.Until, err = time.ParseInLocation(time.DateOnly, value, time.Local); err != nil {
			return "", fmt.Errorf("until=%.80s is no day; write until=2027-01-31", value)
		}
	default:
		return "", fmt.Errorf("%.80q is not understood; a rule is: ID WHERE enforce|audit [until=YYYY-MM-DD] [partial], WHERE is exe=PATH|NAME, unit=U, container=ID or host", word)
	}
	return key, nil
}

func (r *Rule) check() error {
	switch {
	case !r.Where.Given():
		return fmt.Errorf("%s: say where: exe=PATH|NAME, unit=U, container=ID or host", r.ID)
	case r.Where.Host && (r.Where.Exe != "" || r.Where.Unit != "" || r.Where.Container != ""):
		return fmt.Errorf("%s: host is all of this machine; leave it out where exe=, unit= or container= is meant", r.ID)
	case r.Mode == "":
		return fmt.Errorf("%s: say enforce or audit", r.ID)
	}
	_, err := target.New(r.Where)
	return err
}
