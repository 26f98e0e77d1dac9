package source

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Action is the verdict of a guard that could not decide.
type Action struct {
	Pass    bool // Kind is ActionPass
	Kind    ActionKind
	Value   int64   // ActionValue, ActionErrno: the result
	Words   []int64 // ActionGo: the result words before the error
	Errno   int32   // ActionErrno
	GoError string  // ActionGo: full name of a variable of type error
}

// ActionKind tells the forms of Action apart.
type ActionKind uint8

// Forms of Action, with how they are written.
const (
	ActionPass  ActionKind = iota // pass
	ActionVoid                    // reject
	ActionValue                   // reject:N
	ActionNull                    // reject:null
	ActionErrno                   // reject:errno:EINVAL:-1
	ActionGo                      // reject:go:io.EOF, reject:go:0:0:io.EOF, reject:go:0:0
)

var errAction = errors.New("write pass, reject (no result), reject:N, reject:null, reject:errno:EINVAL:-1 or reject:go:io.EOF")

// ParseAction reads an action as a directive has it.
func ParseAction(s string) (Action, error) {
	if s == "pass" {
		return Action{Pass: true}, nil
	}
	form, rest, more := strings.Cut(s, ":")
	if form != "reject" {
		return Action{}, fmt.Errorf("%q is no action: %w", s, errAction)
	}
	if !more {
		return Action{Kind: ActionVoid}, nil
	}
	if rest == "null" {
		return Action{Kind: ActionNull}, nil
	}
	if args, ok := strings.CutPrefix(rest, "errno:"); ok {
		return parseErrno(args)
	}
	if args, ok := strings.CutPrefix(rest, "go:"); ok {
		return parseGo(args)
	}
	v, err := parseWord(rest)
	if err != nil {
		return Action{}, err
	}
	return Action{Kind: ActionValue, Value: v}, nil
}

func parseErrno(args string) (Action, error) {
	name, value, ok := strings.Cut(args, ":")
	if !ok {
		return Action{}, errors.New("errno needs a name and the result: reject:errno:EINVAL:-1")
	}
	v, err := parseWord(value)
	if err != nil {
		return Action{}, err
	}
	if e, known := errnos[name]; known {
		return Action{Kind: ActionErrno, Errno: int32(e), Value: v}, nil
	}
	n, err := strconv.ParseInt(name, 10, 32)
	if err != nil || n < 1 || n > 4095 {
		return Action{}, fmt.Errorf("%q is no errno; write a name like EINVAL, or a number from 1 to 4095", name)
	}
	return Action{Kind: ActionErrno, Errno: int32(n), Value: v}, nil
}

func parseGo(args string) (Action, error) {
	a := Action{Kind: ActionGo}
	// Words come first; a name may hold colons of its own only after them.
	for {
		word, rest, more := strings.Cut(args, ":")
		v, err := parseWord(word)
		if err != nil {
			break
		}
		a.Words = append(a.Words, v)
		if !more {
			return a, a.fits()
		}
		args = rest
	}
	if a.GoError = args; !IsGoName(args) {
		return Action{}, fmt.Errorf("%q is no Go variable; write its full name, like io.EOF", args)
	}
	return a, a.fits()
}

// fits reports an error when a Go function has not so many result registers.
func (a Action) fits() error {
	words := len(a.Words)
	if a.GoError != "" {
		words += 2
	}
	if words > bpf.FrameResults {
		return fmt.Errorf("a Go function returns at most %d words in registers", bpf.FrameResults)
	}
	return nil
}

// parseWord reads a signed or unsigned 64-bit number, in any base Go writes.
func parseWord(s string) (int64, error) {
	if v, err := strconv.ParseInt(s, 0, 64); err == nil {
		return v, nil
	}
	if v, err := strconv.ParseUint(s, 0, 64); err == nil {
		return int64(v), nil
	}
	return 0, fmt.Errorf("%q is no 64-bit number: %w", s, errAction)
}

// String returns the action as a directive has it.
func (a Action) String() string {
	switch a.Kind {
	case ActionVoid:
		return "reject"
	case ActionValue:
		return fmt.Sprintf("reject:%d", a.Value)
	case ActionNull:
		return "reject:null"
	case ActionErrno:
		for name, e := range errnos {
			if int32(e) == a.Errno {
				return fmt.Sprintf("reject:errno:%s:%d", name, a.Value)
			}
		}
		return fmt.Sprintf("reject:errno:%d:%d", a.Errno, a.Value)
	case ActionGo:
		parts := []string{"reject:go"}
		for _, w := range a.Words {
			parts = append(parts, strconv.FormatInt(w, 10))
		}
		if a.GoError != "" {
			parts = append(parts, a.GoError)
		}
		return strings.Join(parts, ":")
	}
	return "pass"
}
