package fingerprint

import (
	"fmt"
	"slices"
	"strings"
)

// tellFixed decides whether the function found is the fixed one, when the
// fingerprint has builds with the fix.
func (s *search) tellFixed(v *verdict) {
	if !s.fp.KnowsFix() {
		return
	}
	switch s.m.fixOf(s.fp, v.top.fn) {
	case FixPresent:
		v.fixed = true
	case FixUnknown:
		v.undecided = true
		v.lower(Confirm, "whether it has the fix could not be told")
	}
}

// finding puts the verdict into words.
func (s *search) finding(v *verdict) Finding {
	f := Finding{Tier: v.tier, Why: v.why, Similarity: v.top.similarity, Score: v.top.score, Margin: v.margin, Exact: v.top.exact}
	f.Found, f.Missed = v.top.found, v.top.missed
	if f.Tier == None {
		f.Why = append([]string{"nothing is like it enough"}, f.Why...)
		return f
	}
	fn := &s.m.funcs[v.top.fn]
	f.At, f.Size, f.Names = fn.at, fn.size, s.m.namesOf(v.top.fn)
	f.Fixed, f.Undecided = v.fixed, v.undecided
	f.Reference = s.refs[v.top.ref].Label
	f.Evidence = s.evidence(v)
	for _, r := range v.rivals {
		o := &s.m.funcs[r.fn]
		f.Rivals = append(f.Rivals, Rival{o.at, s.m.namesOf(r.fn), r.similarity, r.score})
	}
	if f.Tier == Hint && len(f.Why) == 0 {
		f.Why = append(f.Why, fmt.Sprintf("the evidence is %.0f nats for code %.0f %% alike, and %d for %.0f %% are needed", f.Score, 100*f.Similarity, autoScore, 100*farSimilar))
	}
	if f.Tier == Confirm && len(f.Why) == 0 {
		f.Why = append(f.Why, fmt.Sprintf("its code is %.0f %% like the reference, and %.0f %% is needed to go without asking", 100*f.Similarity, 100*s.autoSimilar(v.top, v.margin)))
	}
	return f
}

// maxQuoted bounds how many texts are quoted as evidence.
const maxQuoted = 4

func (s *search) evidence(v *verdict) []string {
	ref := &s.refs[v.top.ref]
	b := s.m.body(v.top.fn)
	var out []string
	if v.top.exact {
		out = append(out, fmt.Sprintf("all %d instructions are those of %s", b.insns, ref.Label))
	} else {
		out = append(out, fmt.Sprintf("%.0f %% like %s, %d instructions for %d", 100*v.top.similarity, ref.Label, b.insns, s.nearestSize(ref, b.insns)))
		if why := s.enough(v); why != "" {
			out = append(out, why)
		}
	}
	if v.placed {
		out = append(out, "its address is kept where the reference's is, in a table or beside a text, and the source is the same or a patch from it")
	}
	for _, k := range []struct {
		kind Kind
		word string
	}{{KindString, "text"}, {KindImport, "reference to"}} {
		shared, of, quoted := s.sharedTexts(ref, b, k.kind)
		if of > 0 {
			out = append(out, strings.TrimSuffix(fmt.Sprintf("%s %d of %d: %s", k.word, shared, of, strings.Join(quoted, ", ")), ": "))
		}
	}
	if n := v.top.found + v.top.missed; n > 0 {
		out = append(out, fmt.Sprintf("%d of %d callers and callees are like the reference's", v.top.found, n))
	}
	return append(out, s.wholeEvidence(v.top, ref)...)
}

// enough says what makes code that is less alike AUTO.
func (s *search) enough(v *verdict) string {
	if v.tier < Auto || v.placed || v.performed || v.top.similarity >= autoSimilar {
		return ""
	}
	switch s.autoSimilar(v.top, v.margin) {
	case foreignSimilar:
		return "that much is enough: the same source compiled otherwise, with no parts split off functions"
	case keptSimilar:
		return "that much is enough: all that the source says of it is there, with the functions around"
	case slotSimilar:
		return "that much is enough: the same source, or a patch from it, and it lies among the same functions"
	}
	return "that much is enough: the same source, or a patch from it"
}

// sharedTexts counts the target's features of a kind that the function has, and
// quotes the first few.
func (s *search) sharedTexts(ref *Reference, b *body, k Kind) (shared, of int, quoted []string) {
	for _, f := range ref.Target.Features {
		if f.Kind() != k {
			continue
		}
		of++
		if _, ok := slices.BinarySearch(b.features, f.Feature); !ok {
			continue
		}
		shared++
		if t := s.fp.Texts[f.Feature]; t != "" && len(quoted) < maxQuoted {
			if k == KindString {
				t = fmt.Sprintf("%q", t[:min(len(t), 40)])
			}
			quoted = append(quoted, t)
		}
	}
	return shared, of, quoted
}
