package fingerprint

import (
	"slices"
	"testing"
)

// drawn makes a build of functions, each with a letter for its code and the functions it
// calls; '-' is code of no interest that other builds have otherwise.
func drawn(code string, calls ...[]int32) *Whole {
	w := &Whole{nodes: make([]node, len(code)), calls: lists{ends: make([]int32, len(code))}}
	for i, c := range code {
		w.nodes[i] = node{insns: 40}
		if c != '-' {
			w.nodes[i].code, w.nodes[i].outline = uint64(c), uint64(c)
		}
		if i < len(calls) {
			w.calls.all = append(w.calls.all, calls[i]...)
		}
		w.calls.ends[i] = int32(len(w.calls.all))
	}
	w.called = w.calls.turned()
	return w
}

func TestPairingGoesAlongCalls(t *testing.T) {
	// a calls b, which changed, and a twin t; c calls the other twin.
	a := drawn("abctt", []int32{1, 3}, nil, []int32{4})
	b := drawn("ttaBc", nil, nil, []int32{1, 3}, nil, []int32{0})
	p := pair(a, b, nil)
	if want := []int32{2, -1, 4, 1, 0}; !slices.Equal(p.to, want) {
		t.Errorf("paired %v, want %v", p.to, want)
	}
	for _, twin := range []int{3, 4} {
		if !p.firm[twin] {
			t.Errorf("the twin %d, told by its only caller, is in doubt", twin)
		}
	}
	if p.firm[0] {
		t.Error("what nothing calls is beyond doubt")
	}
}

func TestPairingAbstainsBetweenTwinsOfOneCaller(t *testing.T) {
	a := drawn("att", []int32{1, 2})
	if p := pair(a, a, nil); p.to[1] >= 0 || p.to[2] >= 0 {
		t.Errorf("twins that the same function calls are paired: %v", p.to)
	}
}

func TestPairingDropsWhatOthersContradict(t *testing.T) {
	// x has the code in b that it had in a, and is called by y there, which has code of its
	// own in both: so is z, called by what called x.
	a := drawn("xyzpq", nil, nil, nil, []int32{0}, []int32{0})
	b := drawn("xyzpq", nil, []int32{0}, nil, []int32{2}, []int32{2})
	if p := pair(a, b, nil); p.to[0] >= 0 || p.firm[0] {
		t.Errorf("paired %v against all callers", p.to)
	}
}

func TestPairingWithoutTheTarget(t *testing.T) {
	// The twin that is left has its own caller: it is not the one that is gone.
	a := drawn("acstt", []int32{3}, []int32{4})
	p := pair(a, a, []int32{3})
	if p.to[3] >= 0 || p.to[4] != 4 {
		t.Errorf("paired %v with 3 taken away", p.to)
	}
}
