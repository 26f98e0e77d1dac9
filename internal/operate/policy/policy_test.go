package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

func TestParse(t *testing.T) {
	p, err := Parse("policy", []byte(`# what is kept here
CVE-2024-31228 exe=redis-server enforce
CVE-2024-7347  exe=/usr/sbin/nginx unit=nginx audit until=2026-12-31 # a trial

CVE-2024-53580 host enforce partial`))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Rules) != 3 {
		t.Fatalf("%d rules", len(p.Rules))
	}
	r := p.Rules[1]
	if r.ID != "CVE-2024-7347" || r.Where.Exe != "/usr/sbin/nginx" || r.Where.Unit != "nginx" || r.Mode != pie.ModeAudit || r.Line != 3 {
		t.Errorf("%+v", r)
	}
	last := time.Date(2026, 12, 31, 23, 59, 0, 0, time.Local)
	if r.Over(last) || !r.Over(last.Add(time.Minute)) {
		t.Error("a rule ends with its last day")
	}
	for _, r := range p.Rules {
		again, err := Parse("policy", []byte(r.String()))
		if err != nil || again.Rules[0].String() != r.String() {
			t.Errorf("%s: %v", r, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ text, says string }{
		{"CVE-1", "policy:1: CVE-1: say where"},
		{"\nCVE-1 exe=a", "policy:2: CVE-1: say enforce or audit"},
		{"CVE-1 exe=a off", `"off" is not understood`},
		{"CVE-1 exe= enforce", "exe= has no value"},
		{"CVE-1 exe=a exe=b enforce", "exe is said twice"},
		{"CVE-1 exe=a enforce audit", "the mode is said twice"},
		{"CVE-1 host exe=a enforce", "host is all of this machine"},
		{"CVE-1 exe=bin/a enforce", "absolute path"},
		{"CVE-1 unit=a/b enforce", "not a path"},
		{"CVE-1 container=xyz enforce", "container"},
		{"CVE-1 exe=a enforce until=tomorrow", "is no day"},
		{"CVE-1 exe=a enforce until=2026-02-31", "is no day"},
		{"CVE-1 exe=a enforce\ncve-1 exe=a audit", "line 1 says already"},
		{"../x exe=a enforce", "is no id"},
		{strings.Repeat("x", 48) + " exe=a enforce", "more than 47 characters"},
		{"CVE-1 exe=a\x1b[2J enforce", "cannot be printed"},
		{"CVE-1 exe=\xff enforce", "cannot be printed"},
		{"CVE-1 exe=a enforce\nCVE-1 exe=a audit", "policy:2: line 1 says already"},
		{strings.Repeat("x", maxSize+1), "longer than"},
	} {
		p, err := Parse("policy", []byte(tt.text))
		var e *Error
		if p != nil || !errors.As(err, &e) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%.60q: %v, want %q", tt.text, err, tt.says)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("CVE-2024-31228 exe=redis-server enforce until=2026-12-31 partial\n# x\nA host audit"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("policy", text)
		if err != nil {
			return
		}
		for _, r := range p.Rules {
			again, err := Parse("policy", []byte(r.String()))
			if err != nil || len(again.Rules) != 1 || again.Rules[0].String() != r.String() {
				t.Errorf("%q reads back as %v, %v", r, again, err)
			}
		}
	})
}
