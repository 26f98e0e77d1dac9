package canary

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestParseSteps(t *testing.T) {
	steps, err := ParseSteps("1, 10%,all")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ n, first, second, third int }{{1, 1, 1, 1}, {5, 1, 1, 5}, {40, 1, 4, 40}, {41, 1, 5, 41}} {
		if got := []int{steps[0].of(tt.n), steps[1].of(tt.n), steps[2].of(tt.n)}; got[0] != tt.first || got[1] != tt.second || got[2] != tt.third {
			t.Errorf("of %d: %v", tt.n, got)
		}
	}
	for _, tt := range []struct{ text, says string }{
		{"", "is no step"}, {"0,all", "is no step"}, {"-1,all", "is no step"}, {"x%,all", "is no share"}, {"101%,all", "is no share"}, {"NaN%,all", "is no share"},
		{"1,10%", "write all behind it"}, {"10%,1%,all", "does not come after"}, {"5,2,all", "does not come after"}, {"all,1", "does not come after"}, {"1,,all", "is no step"},
	} {
		if _, err := ParseSteps(tt.text); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.says)
		}
	}
}

func FuzzParseSteps(f *testing.F) {
	f.Add("1,10%,all")
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := ParseSteps(text)
		if err != nil {
			return
		}
		for _, n := range []int{1, 7, 1000} {
			for _, s := range steps {
				if k := s.of(n); k < 1 || k > n {
					t.Errorf("%q: %v of %d is %d", text, s, n, k)
				}
			}
			if steps[len(steps)-1].of(n) != n {
				t.Errorf("%q does not end with all", text)
			}
		}
	})
}

func TestHealth(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer s.Close()
	ctx := context.Background()
	for _, tt := range []struct {
		h    Health
		says string // "" is well
	}{
		{Health{}, ""}, {Health{Command: "true"}, ""}, {Health{Command: "echo the pool is empty; false"}, "the pool is empty"},
		{Health{URL: s.URL}, ""}, {Health{Command: "true", URL: "http://127.0.0.1:1/"}, "refused"},
	} {
		err := tt.h.check(ctx)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v", tt.h, err)
		}
	}
	status = http.StatusBadGateway
	if err := (Health{URL: s.URL}).check(ctx); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("502: %v", err)
	}
}
