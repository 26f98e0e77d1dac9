package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/patch-integration-engine/pie"
)

func TestModeWords(t *testing.T) {
	now := time.Date(2026, 11, 26, 2, 14, 0, 0, time.Local)
	at := func(d time.Duration) *time.Time { e := now.Add(d); return &e }
	for _, tt := range []struct {
		mode pie.Mode
		end  *time.Time
		want string
	}{
		{pie.ModeEnforce, nil, "enforce"},
		{pie.ModeEnforce, at(10 * time.Minute), "enforce, trial until 02:24"},
		{pie.ModeAudit, at(10 * time.Minute), "audit, trial until 02:24"},
		{pie.ModeEnforce, at(48 * time.Hour), "enforce, trial until 2026-11-28 02:14"},
		{pie.ModeEnforce, at(-time.Minute), "enforce, trial ended at 02:13: rejects nothing"},
		{pie.ModeOff, at(10 * time.Minute), "off"},
	} {
		if got := modeWords(tt.mode, tt.end, now); got != tt.want {
			t.Errorf("%s, end %v: %q, want %q", tt.mode, tt.end, got, tt.want)
		}
	}
}

func TestParseShare(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want float64
		bad  bool
	}{
		{"", 0, false}, {"1%", 0.01, false}, {"0.5%", 0.005, false}, {"0.01", 0.01, false}, {"100%", 1, false}, {"1", 1, false},
		{"0", 0, true}, {"-1%", 0, true}, {"101%", 0, true}, {"2", 0, true}, {"NaN", 0, true}, {"+Inf", 0, true}, {"many", 0, true}, {"%", 0, true},
	} {
		got, err := parseShare(tt.in)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("parseShare(%q) = %v, %v; want %v, bad %v", tt.in, got, err, tt.want, tt.bad)
		}
	}
}

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		42 * time.Microsecond: "0.04 ms", 420 * time.Microsecond: "0.4 ms", 4200 * time.Microsecond: "4.2 ms", 42 * time.Millisecond: "42 ms",
	} {
		if got := milliseconds(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

// Whatever a process is called, a refusal stays the lines it has.
func TestRefusalsCannotBeForged(t *testing.T) {
	var out, errs bytes.Buffer
	a := &app{out: &out, err: &errs, getenv: func(string) string { return "" }}
	a.printRefusal(&pie.Refusal{Code: "traced", Msg: "pid 7 (x\nrefused: all\x1b[2J) is traced", Details: []string{"a\rb"}, Instead: "detach it"})
	want := `refused: pid 7 (x\nrefused: all\x1b[2J) is traced [traced]
    a\rb
  nothing was changed
  detach it
`
	if errs.String() != want || out.Len() > 0 {
		t.Errorf("got\n%swant\n%s", errs.String(), want)
	}
}

// JSON says the same as before, and nothing a terminal acts on.
func TestJSONIsHarmless(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	want := "a\x1b[2J \u009b31m \u202e \U000e0001 größe \n <&>"
	if err := a.printJSONLine(map[string]string{"exe": want}); err != nil {
		t.Fatal(err)
	}
	for _, r := range strings.TrimSuffix(out.String(), "\n") {
		if !unicode.IsPrint(r) {
			t.Errorf("%U reaches the terminal", r)
		}
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["exe"] != want {
		t.Errorf("%q, %v; want %q", back["exe"], err, want)
	}
}
