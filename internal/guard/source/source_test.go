package source

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

const head = "// Package prepatch guards.\npackage prepatch\n\n"

func TestParse(t *testing.T) {
	src := head + `//pie:id       CVE-2024-31228
//pie:fixed    7.0.15-1~deb12u2
//pie:expires  2027-01-31
//pie:cap      write call
//pie:cap      rewrite
//pie:ref      https://example.com/a
//pie:ref      https://example.com/?q=b
//pie:evidence memory
//pie:shared

// Match is a guard.
//
//pie:guard exe=redis-server func=stringmatchlen onfault=pass onfuel=reject:0
func Match() {}

//pie:guard exe=/usr/bin/x lib=libc.so.6 func="operator new" fingerprint=f.pf onfault=reject:errno:EINVAL:-1 onfuel=reject
func Two() {
	// an ordinary comment
}

//pie:guard	lib=libx.so.1   func=github.com/nats-io/nats-server/v2/server.(*client).processPub onfault=reject:go:0:-1:io.EOF onfuel=reject:null
func Three() {}

//pie:guard exe=x func=odd.name abi=sysv onfault=pass onfuel=pass
func Four() {}

//pie:guard exe=* func=golang.org/x/text/language.ParseAcceptLanguage onfault=pass onfuel=pass
func Five() {}
`
	p, err := Parse("g.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	guards := p.Guards
	if at := p.At["expires"]; at != (bpf.Pos{File: "g.go", Line: 6, Col: 7}) {
		t.Errorf("expires stands at %v", at)
	}
	p.Guards, p.At = nil, nil
	want := &Prepatch{
		ID: "CVE-2024-31228", Fixed: "7.0.15-1~deb12u2", Expires: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
		Caps: []string{"write", "call", "rewrite"}, Refs: []string{"https://example.com/a", "https://example.com/?q=b"},
		Evidence: EvidenceMemory, Shared: true,
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	wantGuards := []Guard{
		{Name: "Match", Exe: "redis-server", Func: "stringmatchlen", OnFault: Action{Pass: true}, OnFuel: Action{Kind: ActionValue}, Pos: bpf.Pos{File: "g.go", Line: 16, Col: 7}},
		{Name: "Two", Exe: "/usr/bin/x", Lib: "libc.so.6", Func: "operator new", Fingerprint: "f.pf", OnFault: Action{Kind: ActionErrno, Errno: 22, Value: -1}, OnFuel: Action{Kind: ActionVoid}, Pos: bpf.Pos{File: "g.go", Line: 19, Col: 7}},
		{Name: "Three", Lib: "libx.so.1", Func: "github.com/nats-io/nats-server/v2/server.(*client).processPub", ABI: GoInternal, OnFault: Action{Kind: ActionGo, Words: []int64{0, -1}, GoError: "io.EOF"}, OnFuel: Action{Kind: ActionNull}, Pos: bpf.Pos{File: "g.go", Line: 24, Col: 7}},
		{Name: "Four", Exe: "x", Func: "odd.name", OnFault: Action{Pass: true}, OnFuel: Action{Pass: true}, Pos: bpf.Pos{File: "g.go", Line: 27, Col: 7}},
		{Name: "Five", Func: "golang.org/x/text/language.ParseAcceptLanguage", ABI: GoInternal, OnFault: Action{Pass: true}, OnFuel: Action{Pass: true}, Pos: bpf.Pos{File: "g.go", Line: 30, Col: 7}},
	}
	for i := range max(len(guards), len(wantGuards)) {
		if i >= len(guards) || i >= len(wantGuards) || !reflect.DeepEqual(guards[i], wantGuards[i]) {
			t.Errorf("guard %d\ngot  %+v\nwant %+v", i, guards, wantGuards)
			break
		}
	}
}

// Directives may be spread over the files of a prepatch; order is by name.
func TestParseFiles(t *testing.T) {
	p, err := ParseFiles(map[string][]byte{
		"b.go": []byte(head + "//pie:guard exe=x func=g onfault=pass onfuel=pass\nfunc B() {}\n"),
		"a.go": []byte(head + "//pie:id X-1\n\n//pie:guard exe=x func=f onfault=pass onfuel=pass\nfunc A() {}\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Guards) != 2 || p.Guards[0].Name != "A" || p.Guards[1].Pos.File != "b.go" {
		t.Errorf("%+v", p.Guards)
	}
}

func TestParseErrors(t *testing.T) {
	const guard = "//pie:guard exe=x func=f onfault=pass onfuel=pass"
	for _, test := range []struct{ src, want string }{
		{"//pie:idd X", "g.go:4:7: unknown directive //pie:idd"},
		{"//pie: id X", "g.go:4:7: unknown directive //pie:"},
		{"// pie:id X", "g.go:4:1: this is not read as a directive; write //pie: without a space"},
		{"//pie:id record-CVE-2024-1", "g.go:4:7: ids that begin with record-"},
		{"//pie:id A B", "g.go:4:7: //pie:id takes 1 value(s), not 2"},
		{"//pie:id", "g.go:4:7: //pie:id takes 1 value(s), not 0"},
		{"//pie:id A\n//pie:id B", "g.go:5:7: //pie:id is given twice"},
		{"//pie:id a/b", "g.go:4:7: an id has"},
		{"//pie:id " + strings.Repeat("a", MaxID+1), "g.go:4:7: an id has"},
		{"//pie:shared yes", "takes 0 value(s)"},
		{"//pie:expires tomorrow", "expires takes a day as 2027-01-31"},
		{"//pie:cap fly", `g.go:4:7: unknown capability "fly"; known are write, rewrite, call, exit`},
		{"//pie:guard exe=x func=f onfault=pass onfuel=pass", "g.go:4:7: //pie:guard must stand in the comment directly above a function"},
		{guard + "\n\nfunc G() {}", "g.go:4:7: //pie:guard must stand"},
		{"func G() {\n\t" + guard + "\n}", "g.go:5:8: a directive cannot stand inside a function"},
		{"//pie:id X\nfunc G() {}", "g.go:4:7: only //pie:guard can stand on a function"},
		{guard + " onfault=pass\nfunc G() {}", "g.go:4:51: onfault is given twice"},
		{guard + " color=red\nfunc G() {}", `g.go:4:51: unknown key "colorred"`},
		{guard + " red\nfunc G() {}", `g.go:4:51: unknown key "red"; //pie:guard takes exe, lib, func, fingerprint, abi, onfault, onfuel`},
		{guard + "\n" + guard + "\nfunc G() {}", "g.go:5:7: G has two //pie:guard lines"},
		{"//pie:guard func=f onfault=pass onfuel=pass\nfunc G() {}", "g.go:4:7: the guard names no file; write exe=NAME"},
		{"//pie:guard exe=x onfault=pass onfuel=pass\nfunc G() {}", "g.go:4:7: func is missing"},
		{"//pie:guard exe=x func=f onfuel=pass\nfunc G() {}", "g.go:4:7: onfault is missing; say what happens"},
		{"//pie:guard exe=x func=f onfault=pass\nfunc G() {}", "g.go:4:7: onfuel is missing; say what happens"},
		{"//pie:guard exe= func=f onfault=pass onfuel=pass\nfunc G() {}", "g.go:4:13: exe has no value"},
		{"//pie:guard exe=x lib=/lib/libc.so.6 func=f onfault=pass onfuel=pass\nfunc G() {}", "g.go:4:19: lib takes a soname"},
		{"//pie:guard exe=x func=f fingerprint=../x.pf onfault=pass onfuel=pass\nfunc G() {}", "g.go:4:26: fingerprint takes"},
		{"//pie:guard exe=x func=f abi=fast onfault=pass onfuel=pass\nfunc G() {}", "g.go:4:26: abi is sysv or go"},
		{"//pie:guard exe=x func=f onfault=open onfuel=pass\nfunc G() {}", `g.go:4:26: onfault: "open" is no action: write pass, reject`},
		{"//pie:guard exe=x func=\"f onfault=pass onfuel=pass\nfunc G() {}", "g.go:4:24: the quoted value does not end"},
		{"//pie:guard exe=x func=\"f\"g onfault=pass onfuel=pass\nfunc G() {}", "a blank must follow the quoted value"},
		{"//pie:guard exe=x func=\"f\\x1b[31m\" onfault=pass onfuel=pass\nfunc G() {}", "cannot be printed"},
		{"//pie:fixed 1\u202e2", "cannot be printed"},
		{"//pie:id X", "g.go:1:1: the prepatch has no guard"},
		{guard + "\nfunc G() {}", "g.go:1:1: the prepatch has no id"},
		{"func (", "g.go:4:8: expected"},
		{"//pie:ref " + strings.Repeat("x", 5000), "a directive has at most 4096 characters"},
		{"//pie:id X\n\n" + strings.Repeat(guard+"\nfunc G() {}\n", 65), "at most 64 guards"},
	} {
		_, err := Parse("g.go", []byte(head+test.src+"\n"))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80q\ngot  %v\nwant %s", test.src, err, test.want)
			continue
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.80q: %T holds no *Error", test.src, err)
		}
	}
}

func TestErrorsAreBounded(t *testing.T) {
	_, err := Parse("g.go", []byte(head+strings.Repeat("//pie:x\n", 10_000)))
	if n := strings.Count(err.Error(), "\n") + 1; n > maxErrors {
		t.Errorf("%d lines", n)
	}
	if _, err := Parse("g.go", make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
}

// An action is written as it is read.
func TestActions(t *testing.T) {
	for _, s := range []string{
		"pass", "reject", "reject:0", "reject:-1", "reject:9223372036854775807", "reject:null", "reject:errno:EINVAL:-1", "reject:errno:4095:0",
		"reject:go:io.EOF", "reject:go:0:0:io.EOF", "reject:go:1:2", "reject:go:1:2:3:4:5:6:7:8:9", "reject:go:github.com/x/y.ErrZ",
	} {
		a, err := ParseAction(s)
		if err != nil || a.String() != s {
			t.Errorf("%s: %+v, %q, %v", s, a, a.String(), err)
		}
		if a.Pass != (a.Kind == ActionPass) {
			t.Errorf("%s: Pass is %v", s, a.Pass)
		}
	}
	for s, want := range map[string]string{"reject:0x10": "reject:16", "reject:0xffffffffffffffff": "reject:-1", "reject:errno:22:-1": "reject:errno:EINVAL:-1"} {
		if a, err := ParseAction(s); err != nil || a.String() != want {
			t.Errorf("%s: %q, %v", s, a.String(), err)
		}
	}
	for _, s := range []string{
		"", "Pass", "pass:", "reject:", "reject:x", "reject:1.5", "reject:99999999999999999999", "reject:errno:EINVAL", "reject:errno:ENOTHING:-1", "reject:errno:0:-1",
		"reject:errno:EINVAL:x", "reject:go:", "reject:go:EOF", "reject:go:1:2:", "reject:go:1:2:3:4:5:6:7:8:9:10", "reject:go:1:2:3:4:5:6:7:8:io.EOF", "kill",
	} {
		if a, err := ParseAction(s); err == nil {
			t.Errorf("%q is accepted as %v", s, a)
		}
	}
}

func TestGoNames(t *testing.T) {
	for name, want := range map[string]bool{
		"main.main": true, "github.com/x/y.(*T).M": true, "server.(*client).processPub": true, "io.EOF": true, "strings.Map.func1": true,
		"strdup": false, "f.isra.0": false, "f.constprop.0.isra.1": false, "f.part.2": false, "f.cold": false, "malloc@@GLIBC_2.2.5": false, "_ZN3foo3barEv": false, "_ZN3foo3barEv.cold.5": false, "_RNvC3foo3bar": false, "f.llvm.123": false,
	} {
		if got := IsGoName(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + "//pie:id X\n//pie:guard exe=x lib=y func=\"a b\" onfault=pass onfuel=reject:go:0:io.EOF\nfunc G() {}\n"))
	f.Add([]byte("package p\n//pie:guard func=f\nfunc G() {//pie:id\n}"))
	f.Add([]byte("package p//pie:cap write\n/*pie:x*/"))
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := Parse("g.go", src)
		if (p == nil) == (err == nil) {
			t.Fatal("neither a prepatch nor an error")
		}
		if err != nil {
			return
		}
		if p.ID == "" || len(p.Guards) == 0 || len(p.Guards) > MaxGuards {
			t.Errorf("%+v", p)
		}
		for _, g := range p.Guards {
			for _, s := range []string{g.Exe, g.Lib, g.Func, g.Fingerprint, g.OnFault.String(), g.OnFuel.String()} {
				if s != printable(s) {
					t.Errorf("%q cannot be printed", s)
				}
			}
			if g.Exe == "" && g.Lib == "" && !bytes.Contains(src, []byte("exe")) || g.Func == "" {
				t.Errorf("%+v", g)
			}
			if a, err := ParseAction(g.OnFault.String()); err != nil || !reflect.DeepEqual(a, g.OnFault) {
				t.Errorf("%v is read as %v, %v", g.OnFault, a, err)
			}
		}
	})
}
