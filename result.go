package pie

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// checkResult refuses a guard whose rejects do not give back what the function
// returns as debug information describes it: its callers would take for a result
// what nobody has put there. What is not described is not checked.
func checkResult(info *debuginfo.Function, f locate.Function, verdicts []bpf.Verdict) error {
	var rejects []bpf.Verdict
	for _, v := range verdicts {
		if v.Kind() == bpf.VerdictReject {
			rejects = append(rejects, v)
		}
	}
	if len(rejects) == 0 {
		return nil
	}
	check := cResult
	if f.Go {
		check = goResult
	}
	want, err := check(info, f)
	if err != nil || want == nil {
		return nil // what is not described, or cannot be read, cannot be compared
	}
	for _, v := range rejects {
		if why := want(v); why != "" {
			return refuse(CodeResult, nil, "return from the guard what the function returns, or guard its caller", "%s in %s %s", f.Name, f.Image.Name(), why)
		}
	}
	return nil
}

// checkRewrites refuses a guard that changes stack arguments which the function does
// not have: they would be its caller's variables.
func checkRewrites(info *debuginfo.Function, f locate.Function, verdicts []bpf.Verdict) error {
	last := 0
	for _, v := range verdicts {
		last = max(last, bits.Len16(v.Rewrites()))
	}
	if f.Go || last <= sysvRegisters {
		return nil
	}
	params, err := info.Params()
	if err != nil || len(params) >= last {
		return nil // what is not described cannot be compared
	}
	return refuse(CodeResult, nil, "change only arguments that it has", "%s in %s has %d parameters, and the guard changes argument word %d, on its caller's stack", f.Name, f.Image.Name(), len(params), last-1)
}

// sysvRegisters is how many argument words are in registers (psABI 3.2.3).
const sysvRegisters = 6

// A shape says what is wrong with a reject; "" when nothing is.
type shape func(v bpf.Verdict) string

// cResult is the shape of what a C, C++ or Rust function returns (psABI 3.2.3).
func cResult(info *debuginfo.Function, f locate.Function) (shape, error) {
	t, err := info.Result()
	if err != nil {
		return nil, err
	}
	returns := "returns " + t.Name
	switch {
	case t.Kind == debuginfo.Void || t.Size < 0:
		return nil, nil // a result that nobody looks at does no harm
	case t.Kind == debuginfo.Other:
		return func(bpf.Verdict) string { return returns + " by value, which a guard cannot make" }, nil
	case t.Kind == debuginfo.Float && (t.Size > 8 || strings.Contains(t.Name, "omplex")):
		return func(bpf.Verdict) string { return returns + ", which a guard cannot make" }, nil
	case t.Kind == debuginfo.Float:
		return func(v bpf.Verdict) string {
			if v&bpf.VerdictXMM0 == 0 {
				return returns + ", and the guard rejects without a floating-point result (RejectFloat)"
			}
			return ""
		}, nil
	}
	words := int((t.Size + 7) / 8)
	return func(v bpf.Verdict) string {
		switch {
		case v&bpf.VerdictXMM0 != 0:
			return returns + ", and the guard rejects with a floating-point result"
		case v.Words() != words:
			return fmt.Sprintf("%s, and the guard rejects with %d words instead of %d", returns, v.Words(), words)
		}
		return ""
	}, nil
}

// goResult is the shape of what a Go function returns: each result as words, in
// order. It is nil where a result's words cannot be told from its size.
func goResult(info *debuginfo.Function, f locate.Function) (shape, error) {
	results, err := info.GoResults()
	if err != nil {
		return nil, err
	}
	words := 0
	var names []string
	for _, r := range results {
		n, known := goWords(r.Type)
		if !known {
			return nil, nil
		}
		words += n
		names = append(names, r.Type.Name)
	}
	return func(v bpf.Verdict) string {
		if v.Words() == words {
			return ""
		}
		return fmt.Sprintf("returns (%s), which are %d words, and the guard rejects with %d", strings.Join(names, ", "), words, v.Words())
	}, nil
}

// goWords is how many integer registers a result takes.
func goWords(t debuginfo.Type) (n int, known bool) {
	switch {
	case t.Kind == debuginfo.Signed, t.Kind == debuginfo.Unsigned, t.Kind == debuginfo.Pointer:
		return 1, t.Size > 0 && t.Size <= 8
	case t.Name == "string", t.Name == "error", strings.HasPrefix(t.Name, "interface "):
		return 2, t.Size == 16
	case strings.HasPrefix(t.Name, "[]"):
		return 3, t.Size == 24
	}
	return 0, false
}
