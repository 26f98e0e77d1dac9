package debuginfo

import (
	"slices"
	"strings"
	"testing"
)

// TestLacks: where types are missing, why is said.
func TestLacks(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"lines only": {[]string{"-g1"}, "-g1"},
		"split":      {[]string{"-g", "-gsplit-dwarf"}, ".dwo files"},
		"split, 4":   {[]string{"-gdwarf-4", "-gsplit-dwarf"}, ".dwo files"},
		"all":        {[]string{"-g"}, ""},
	} {
		i, err := Open(open(t, gcc(t, c.args...)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := i.Lacks(); !strings.Contains(got, c.says) || c.says == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}

func TestLike(t *testing.T) {
	i, err := Open(open(t, gcc(t, "-g")))
	if err != nil {
		t.Fatal(err)
	}
	if got := i.Like("listno"); !slices.Contains(got, "list_node") {
		t.Errorf("like listno: %q", got)
	}
	if got := i.Like(""); len(got) != 0 {
		t.Errorf("like nothing: %q", got)
	}
}
