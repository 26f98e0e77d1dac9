package source

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// field is one blank-separated piece of a directive: value alone, or key=value.
type field struct {
	key, value string
	col        int
}

// splitError is a piece that cannot be read.
type splitError struct {
	col int
	msg string
}

// maxLine bounds a directive, in bytes.
const maxLine = 4096

// split cuts a directive's text, which begins at column col, at its blanks. A
// value that contains blanks is quoted as a Go string: func="a b".
func split(s string, col int) ([]field, *splitError) {
	if len(s) > maxLine {
		return nil, &splitError{col, fmt.Sprintf("a directive has at most %d characters", maxLine)}
	}
	var fields []field
	for i := 0; i < len(s); {
		if s[i] == ' ' || s[i] == '\t' || s[i] == '\r' {
			i++
			continue
		}
		f := field{col: col + i}
		if k := strings.IndexAny(s[i:], "= \t\""); k > 0 && s[i+k] == '=' {
			f.key = s[i : i+k]
			i += k + 1
		}
		n, value, err := scanValue(s[i:])
		if err != "" {
			return nil, &splitError{col + i, err}
		}
		f.value = value
		i += n
		fields = append(fields, f)
	}
	return fields, nil
}

// scanValue reads one value at the start of s and returns its length in s.
func scanValue(s string) (n int, value, problem string) {
	if strings.HasPrefix(s, `"`) {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return 0, "", "the quoted value does not end"
		}
		value, err = strconv.Unquote(quoted)
		if err != nil {
			return 0, "", "the quoted value is not a Go string"
		}
		n = len(quoted)
		if n < len(s) && !strings.ContainsRune(" \t\r", rune(s[n])) {
			return 0, "", "a blank must follow the quoted value"
		}
	} else {
		if n = strings.IndexAny(s, " \t\r"); n < 0 {
			n = len(s)
		}
		value = s[:n]
	}
	if value != printable(value) {
		return 0, "", "the value contains a character that cannot be printed"
	}
	return n, value, ""
}

// printable is s with what a terminal would act on, or not show, replaced by ?.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// guardKeys are the keys of //pie:guard.
var guardKeys = []string{"exe", "lib", "func", "fingerprint", "abi", "onfault", "onfuel"}

// guard reads //pie:guard, which stands on fn.
func (r *reader) guard(pos bpf.Pos, fields []field, fn *ast.FuncDecl) {
	if fn == nil {
		r.errorf(pos, "//pie:guard must stand in the comment directly above a function")
		return
	}
	g := Guard{Name: fn.Name.Name, Pos: pos}
	if r.guarded[fn] {
		r.errorf(pos, "%s has two //pie:guard lines; a function guards one other: write a second function that calls the first", g.Name)
		return
	}
	r.guarded[fn] = true
	given := map[string]bool{}
	before := len(r.errs)
	for _, f := range fields {
		at := bpf.Pos{File: pos.File, Line: pos.Line, Col: f.col}
		switch {
		case !slices.Contains(guardKeys, f.key):
			r.errorf(at, "unknown key %q; //pie:guard takes %s, each as key=value", printable(f.key+f.value), strings.Join(guardKeys, ", "))
			continue
		case given[f.key]:
			r.errorf(at, "%s is given twice", f.key)
			continue
		case f.value == "":
			r.errorf(at, "%s has no value", f.key)
		default:
			r.set(&g, f, at)
		}
		given[f.key] = true
	}
	if !given["exe"] && !given["lib"] {
		r.errorf(pos, "the guard names no file; write exe=NAME for a function of the program, lib=SONAME for one of a library, both for a library function in one program, exe=* for one that is linked into any program")
	}
	for _, key := range []string{"func", "onfault", "onfuel"} {
		if !given[key] {
			r.errorf(pos, "%s is missing; %s", key, missing[key])
		}
	}
	if !given["abi"] && IsGoName(g.Func) {
		g.ABI = GoInternal
	}
	if len(r.errs) == before {
		r.p.Guards = append(r.p.Guards, g)
	}
}

// anyExe is the exe= of a guard for whatever program has the function: one of
// a Go package, or of a C library that is linked in.
const anyExe = "*"

// missing says what to write for a mandatory key.
var missing = map[string]string{
	"func":    "write func=SYMBOL",
	"onfault": "say what happens to a call whose memory the guard cannot read: onfault=pass lets it through (fails open), onfault=reject:-1 rejects it",
	"onfuel":  "say what happens to a call on which the guard runs too long: onfuel=pass lets it through (fails open: an attacker can pad input), onfuel=reject:-1 rejects it",
}

// set stores one key of //pie:guard.
func (r *reader) set(g *Guard, f field, at bpf.Pos) {
	switch f.key {
	case "exe":
		if g.Exe = f.value; f.value == anyExe {
			g.Exe = ""
		}
	case "lib":
		if g.Lib = f.value; strings.Contains(f.value, "/") {
			r.errorf(at, "lib takes a soname as the dynamic linker knows it, like libc.so.6, not a path")
		}
	case "func":
		if g.Func = f.value; len(f.value) > 1024 {
			r.errorf(at, "func is longer than 1024 characters")
		}
	case "fingerprint":
		if g.Fingerprint = f.value; strings.Contains(f.value, "/") || !strings.HasSuffix(f.value, ".pf") {
			r.errorf(at, "fingerprint takes the name of a .pf file beside the prepatch")
		}
	case "abi":
		switch f.value {
		case "sysv":
			g.ABI = SysV
		case "go":
			g.ABI = GoInternal
		default:
			r.errorf(at, "abi is sysv or go")
		}
	case "onfault", "onfuel":
		a, err := ParseAction(f.value)
		if err != nil {
			r.errorf(at, "%s: %v", f.key, err)
		} else if f.key == "onfault" {
			g.OnFault = a
		} else {
			g.OnFuel = a
		}
	}
}

// cClone matches a C name with what gcc and clang append to the copies they make.
var cClone = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z_$][\w$]*(\.(isra|part|constprop|cold|lto_priv|localalias|clone|llvm|resolver|ifunc|avx2|sse4_2|default)|\.\d+)*(@{1,2}[\w.]+)?$`)
})

// IsGoName reports whether a symbol is one of a Go program: package path, dot,
// name. A C name has a dot only before a compiler's or version suffix.
func IsGoName(name string) bool {
	return strings.Contains(name, ".") && !cClone().MatchString(name) && !strings.HasPrefix(name, "_Z") && !strings.HasPrefix(name, "_R")
}

var (
	idPattern  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`) })
	knownCaps  = []string{"write", "rewrite", "call", "exit"}
	fileKeys   = "id, fixed, expires, cap, shared, evidence, ref and, on functions, guard"
	repeatable = map[string]bool{"ref": true, "cap": true}
)

// fileLevel reads a directive that stands for the whole prepatch.
func (r *reader) fileLevel(pos bpf.Pos, key string, fields []field) {
	values := make([]string, len(fields))
	for i, f := range fields {
		if values[i] = f.value; f.key != "" {
			values[i] = f.key + "=" + f.value
		}
	}
	if _, seen := r.p.At[key]; seen && !repeatable[key] {
		r.errorf(pos, "//pie:%s is given twice", printable(key))
		return
	}
	r.p.At[key] = pos
	if want, ok := map[string]int{"id": 1, "fixed": 1, "expires": 1, "shared": 0, "evidence": 1}[key]; ok && len(values) != want {
		r.errorf(pos, "//pie:%s takes %d value(s), not %d", key, want, len(values))
		return
	}
	switch key {
	case "id":
		if r.p.ID = values[0]; !idPattern().MatchString(r.p.ID) || len(r.p.ID) > MaxID {
			r.errorf(pos, "an id has 1 to %d letters, digits, dots, dashes and underscores", MaxID)
		}
		if strings.HasPrefix(r.p.ID, RecorderPrefix) {
			r.errorf(pos, "ids that begin with %s are those of what pie record puts in", RecorderPrefix)
		}
	case "fixed":
		r.p.Fixed = values[0]
	case "expires":
		day, err := time.Parse(time.DateOnly, values[0])
		if err != nil {
			r.errorf(pos, "expires takes a day as 2027-01-31")
		}
		r.p.Expires = day
	case "shared":
		r.p.Shared = true
	case "cap":
		r.caps(pos, values)
	case "evidence":
		e, ok := evidenceNames[values[0]]
		if !ok {
			r.errorf(pos, "evidence is none, args or memory, not %q", values[0])
		}
		r.p.Evidence = e
	case "ref":
		r.p.Refs = append(r.p.Refs, values...)
	default:
		r.errorf(pos, "unknown directive //pie:%s; known are %s", printable(key), fileKeys)
	}
}

func (r *reader) caps(pos bpf.Pos, values []string) {
	for _, v := range values {
		if !slices.Contains(knownCaps, v) {
			r.errorf(pos, "unknown capability %q; known are %s", v, strings.Join(knownCaps, ", "))
			continue
		}
		if !slices.Contains(r.p.Caps, v) {
			r.p.Caps = append(r.p.Caps, v)
		}
	}
}
