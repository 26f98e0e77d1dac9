package term

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"nginx", "nginx"},
		{"größe", "größe"},
		{"a b", "a b"},
		{"\x1b[2J", `\x1b[2J`},
		{"a\nrefused: x", `a\nrefused: x`},
		{`a\n`, `a\\n`},
		{"\x9b31m", `\x9b31m`},
		{"\u202egnp.exe", `\u202egnp.exe`},
		{"\xff\xfe", `\xff\xfe`},
		{"\u009b", `\u009b`},
		{"", ""},
	} {
		if got := Escape(tt.in); got != tt.want {
			t.Errorf("Escape(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

// No input, however made, leaves a control or format character in the output,
// and two inputs never look the same.
func FuzzEscape(f *testing.F) {
	f.Add("nginx", "nginx\x00")
	f.Add("\x1b]0;x\a", `\x1b]0;x\a`)
	f.Fuzz(func(t *testing.T, a, b string) {
		ea, eb := Escape(a), Escape(b)
		for _, r := range ea {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q: %U reaches the terminal", a, r)
			}
		}
		if a != b && ea == eb {
			t.Fatalf("%q and %q are both shown as %s", a, b, ea)
		}
	})
}

func TestTable(t *testing.T) {
	var tab Table
	tab.Right(1)
	tab.Row("PID", "CALLS", "EXE")
	tab.Row("7", "123456", "ng\x1binx")
	var b bytes.Buffer
	if err := tab.Write(&b, "  "); err != nil {
		t.Fatal(err)
	}
	want := "  PID   CALLS  EXE\n  7    123456  ng\\x1binx\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestColoursOnlyOnATerminal(t *testing.T) {
	s := StyleFor(&bytes.Buffer{}, func(string) string { return "" })
	if got := s.Bad("x"); got != "x" {
		t.Errorf("coloured %q where there is no terminal", got)
	}
}

func TestProgressIsQuietWhenQuick(t *testing.T) {
	var b bytes.Buffer
	p := NewProgress(&b)
	p.Step("looking")
	p.Done()
	if b.Len() != 0 {
		t.Errorf("wrote %q", b.String())
	}
}

func TestProgressTellsWhatLasts(t *testing.T) {
	var b bytes.Buffer
	p := NewProgress(&b)
	p.delay = time.Millisecond
	p.Step("looking at \x1b[31m")
	time.Sleep(50 * time.Millisecond)
	p.Done()
	if got := b.String(); !strings.Contains(got, `looking at \x1b[31m …`) {
		t.Errorf("wrote %q", got)
	}
}
