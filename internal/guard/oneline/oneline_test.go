package oneline

import (
	"errors"
	"go/format"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

var known = []Param{{"buf", "addr", "", nil}, {"len", "i32", "", nil}, {"closed", "bool", "", nil}, {"when", "", "", nil}}

// others are parameters that are no integers.
var others = []Param{{"ratio", Float, "double", nil}, {"s", String, "string", nil}, {"b", Slice, "[]byte", nil}, {"n", "i64", "int", nil}, {"pair", Struct, "struct pair", nil}, {"last", "u32", "unsigned", nil}}

func TestCondition(t *testing.T) {
	for _, c := range []struct {
		when   string
		params []Param
		want   string
		args   int
	}{
		{"i32(arg1) > 256", nil, "int32(arg1) > 256", 2},
		{"u64(arg0) == 0 || i32(arg2) < -1", nil, "uint64(arg0) == 0 || int32(arg2) < -(1)", 3},
		{"len > 1024", known, "arg1 > 1024", 2},
		{"arg1 > 1024", known, "arg1 > 1024", 2},
		{"closed && buf == 0", known, "arg2 && arg0 == 0", 3},
		{"!(len*2 >= 0x10)", known, "!((arg1 * 2) >= 0x10)", 2},
		{"buf == NULL || nil != buf", known, "arg0 == 0 || 0 != arg0", 1},
		{"u32(len) > 'a'", known, "uint32(arg1) > 'a'", 2},
		{"i64(len)+1 != 3", known, "(int64(arg1) + 1) != 3", 2},
		{"len(s) > 1024", others, "int64(arg1.Len) > 1024", 2},
		{"len(s) > len(b) && n<<2 > len(s)", others, "int64(arg1.Len) > int64(arg2.Len) && (arg3 << 2) > int64(arg1.Len)", 4},
		{"u32(n) == u32(arg3)", others, "uint32(arg3) == uint32(arg3)", 4},
	} {
		got, r, err := condition(Spec{Func: "f", When: c.when, Params: c.params})
		if err != nil || got != c.want || r.args != c.args {
			t.Errorf("%q: got %q, %+v, %v; want %q with %d parameters", c.when, got, r, err, c.want, c.args)
		}
	}
}

// structOf is a struct for tests: fields by name.
type structOf map[string]Field

func (s structOf) Go() string { return "request" }

func (s structOf) Field(name string) (Field, error) {
	f, ok := s[name]
	if !ok {
		return f, errors.New("the struct request has no field " + name)
	}
	return f, nil
}

// Fields are read through mirrors, text is compared, and what cannot be is refused.
func TestFieldsAndText(t *testing.T) {
	request := structOf{}
	points := func() (Fields, error) { return request, nil }
	request["len"] = Field{Go: "length", Param: Param{Type: "i32", Written: "int"}}
	request["next"] = Field{Go: "next", Param: Param{Type: "addr", Written: "struct request *", Points: points}}
	request["ok"] = Field{Go: "ok", Param: Param{Type: "bool", Written: "bool"}}
	request["name"] = Field{Go: "name", Param: Param{Type: Struct, Written: "char [12]"}, Chars: true}
	request["hdr"] = Field{Go: "hdr", Param: Param{Type: Struct, Written: "struct hdr"}, Inside: points}
	request["text"] = Field{Go: "text", Param: Param{Type: String, Written: "string"}}
	params := []Param{{"r", "addr", "struct request *", points}, {"s", "addr", "char *", nil}, {"g", String, "string", nil}}
	for _, c := range []struct{ when, want, says string }{
		{"r.len > 10", "libpie.At[request](arg0).length > 10", ""},
		{"r->len > 10 && r -> ok", "libpie.At[request](arg0).length > 10 && libpie.At[request](arg0).ok", ""},
		{"r->next->next->len == 1", "libpie.At[request](libpie.At[request](libpie.At[request](arg0).next).next).length == 1", ""},
		{"!r.hdr.ok", "!(libpie.At[request](arg0).hdr.ok)", ""},
		{"i64(r.len) + 1 > 2", "(int64(libpie.At[request](arg0).length) + 1) > 2", ""},
		{`s == "a->b"`, `textEqual(c, arg1, "a->b")`, ""},
		{`"x" != r->name`, `!textEqual(c, libpie.AddrOf(&libpie.At[request](arg0).name), "x")`, ""},
		{`contains(s, "../") || prefix(g, "\x00")`, `textContains(c, arg1, "../") || c.Bytes(arg2.Ptr, arg2.Len).HasPrefix("\x00")`, ""},
		{`strlen(r.name) > 3 || len(r.text) > 4`, `textLength(c, libpie.AddrOf(&libpie.At[request](arg0).name)) > 3 || int64(libpie.At[request](arg0).text.Len) > 4`, ""},
		{`arg3 == "x"`, `textEqual(c, libpie.Addr(arg3), "x")`, ""},
		{"r.width > 1", "", "column 3 of \"r.width > 1\": the struct request has no field width"},
		{"s.len > 1", "", "s is no struct and no pointer to one"},
		{"r->name > 1", "", "compare it with a string"},
		{"r->ok == 1", "", "write r->ok or !r->ok"},
		{"r->hdr == 1", "", "cannot be compared"},
		{`r->len == "x"`, "", "is a int and no text"},
	} {
		got, _, err := condition(Spec{Func: "f", When: c.when, Params: params})
		if got != c.want && c.says == "" || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %s, %v; want %s%s", c.when, got, err, c.want, c.says)
		}
	}
}

func TestConditionRefused(t *testing.T) {
	for _, c := range []struct {
		when   string
		column int
		says   string
	}{
		{"", 1, "no condition"},
		{"arg4 > 256", 1, "i32(arg4)"},
		{"when > 256", 1, "i32(when)"},
		{"length > 256", 1, "buf, len, closed, when"},
		{"i32(length) > 256", 5, "not a parameter"},
		{"len", 1, "len alone is no condition: write what it is compared with, as in 'len != 0'"},
		{"buf[0] == '/'", 1, "prefix(s, "},
		{"len > ", 7, "expected operand"},
		{"len > 1.5", 7, "not an integer expression"},
		{"len > f(3)", 7, "no function"},
		{"len > 0; evil()", 8, "expected"},
		{"func() bool { return true }()", 1, "not a comparison"},
		{"len > \"a\"", 5, "compared by == and != alone"},
		{"len == \"a\"", 1, "no text"},
		{"buf->next > 1", 1, "no pointer to one"},
		{"when.next > 1", 1, "is not known"},
		{"contains(buf)", 1, "not a comparison"},
		{"contains(buf, len)", 15, "not a string"},
		{"strlen(len) > 1", 8, "no text"},
		{"i32(arg16) > 1", 5, "not a parameter"},
		{"i32(arg01) > 1", 5, "not a parameter"},
		{"bool(arg1) == 1", 1, "a type is one of"},
		{"closed == 1", 1, "write closed or !closed"},
		{"u8(closed) == 1", 1, "closed is a bool and no u8"},
		{"len > i64(buf)", 5, "i32 on its left and i64 on its right"},
		{"len(len) > 1", 5, "len is for strings"},
		{"*buf == 1", 1, "not an integer expression"},
		{"len > 1 /* */ // x\n}", 20, ""},
		{strings.Repeat("(", 5000), 4097, "longer than"},
	} {
		_, _, err := Source(Spec{Func: "f", When: c.when, Reject: "0", Params: known})
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: %v, want a refusal", c.when, err)
			continue
		}
		if e.Offset+1 != c.column || !strings.Contains(e.Msg, c.says) {
			t.Errorf("%q: column %d, %q; want column %d and %q", c.when, e.Offset+1, e.Msg, c.column, c.says)
		}
	}
}

// What debug information knows to be no integer is named as it was written.
func TestOtherTypesRefused(t *testing.T) {
	for when, says := range map[string]string{
		"ratio > 1":      "ratio is a double, which cannot be compared",
		"u64(ratio) > 1": "ratio is a double and no u64",
		"s == 1":         "what can be compared is len(s)",
		"pair == 1":      "pair is a struct pair, which cannot be compared",
		"last > 1":       "where last is passed depends on pair, a struct pair by value",
	} {
		_, _, err := Source(Spec{Func: "f", When: when, Reject: "0", Params: others})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", when, err, says)
		}
	}
	absent := []Param{{"gone", Absent, "int", nil}, {"n", "i32", "int", nil}}
	for when, says := range map[string]string{
		"gone > 1":      "the compiler left gone out of f: a guard cannot see it",
		"i32(gone) > 1": "gone is a int and no i32",
		"n > 1":         "the compiler left gone out of f, and n may be passed elsewhere",
		"i32(arg1) > 1": "the compiler left gone out of f, and arg1 may be passed elsewhere",
	} {
		if _, _, err := Source(Spec{Func: "f", When: when, Reject: "0", Params: absent}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", when, err, says)
		}
	}
	_, source, err := Source(Spec{Func: "f", When: "n > 1", Reject: "0", Params: others})
	if want := "func Guard(c *libpie.Call, arg1 libpie.GoString, arg2 libpie.GoSlice, arg3 int64)"; err != nil || !strings.Contains(string(source), want) {
		t.Errorf("%v\n%s\nwant %s", err, source, want)
	}
	_, _, err = Source(Spec{Func: "f", When: "arg0 > 1", Reject: "0", Unknown: "no debug information for f"})
	if err == nil || !strings.Contains(err.Error(), "is not known (no debug information for f)") {
		t.Errorf("without debug information: %v", err)
	}
}

func TestSource(t *testing.T) {
	id, source, err := Source(Spec{Exe: "a server", Func: "vuln", When: "i32(arg1) > 256", Reject: "-22"})
	if err != nil {
		t.Fatal(err)
	}
	want := `// Package prepatch rejects calls of vuln.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id ` + id + `

// Guard was written by the options --func, --when and --reject.
//
//pie:guard exe="a server" func=vuln onfault=pass onfuel=pass
func Guard(c *libpie.Call, arg0 uint64, arg1 uint64) libpie.Verdict {
	if int32(arg1) > 256 {
		return libpie.Reject(int64(-22))
	}
	return libpie.Pass()
}
`
	if string(source) != want {
		t.Errorf("got\n%s\nwant\n%s", source, want)
	}
	again, _, _ := Source(Spec{Exe: "a server", Func: "vuln", When: "i32(arg1)>256", Reject: "-22"})
	other, _, _ := Source(Spec{Exe: "a server", Func: "vuln", When: "i32(arg1)>257", Reject: "-22"})
	if again != id || other == id {
		t.Errorf("ids %s, %s, %s: the same guard has one id, another guard another", id, again, other)
	}
}

func TestReject(t *testing.T) {
	for _, c := range []struct{ text, result, want string }{
		{"-1", "", "Reject(int64(-1))"},
		{"0x10", "i32", "Reject(int64(16))"},
		{"18446744073709551615", "u64", "Reject(uint64(0xffffffffffffffff))"},
		{"0xffffffff", "i32", "Reject(int64(4294967295))"},
		{"-1", "u32", "Reject(int64(-1))"},
		{"-128", "i8", "Reject(int64(-128))"},
		{"true", "bool", "Reject(true)"},
		{"0", "bool", "Reject(int64(0))"},
		{"null", "addr", "RejectPtr(0)"},
		{"NULL", "addr", "RejectPtr(0)"},
		{"void", "", "RejectVoid()"},
		{"void", Void, "RejectVoid()"},
		{"-0.5", Float, "RejectFloat(-0.5)"},
		{"1", Float, "RejectFloat(1)"},
		{"0", Single, "RejectFloat32(0)"},
		{"-1.5", Single, "RejectFloat32(-1.5)"},
		{"io.EOF", Interface, `RejectGo(libpie.GoVar("io.EOF"))`},
		{"github.com/x/y-z/v2.ErrA", Interface, `RejectGo(libpie.GoVar("github.com/x/y-z/v2.ErrA"))`},
	} {
		if got, err := (Spec{Func: "f", Reject: c.text, Result: c.result}).verdict(); err != nil || got != "libpie."+c.want {
			t.Errorf("--reject %s of %s: %q, %v; want %q", c.text, c.result, got, err, c.want)
		}
	}
	for _, c := range []struct{ text, result, says string }{
		{"nil", "", "not a value to return"},
		{"null", "", "not a value to return"},
		{"true", "i32", "not a value to return"},
		{"99999999999", "i32", "of type i32, which is -2147483648 to 4294967295"},
		{"18446744073709551615", "u32", "of type u32, which is at most 4294967295"},
		{"256", "u8", "of type u8"},
		{"2", "bool", "of type bool, which is 0 to 1"},
		{"0", Void, `f returns nothing: write "void"`},
		{"void", "i32", "f returns a value (i32)"},
		{"0", Struct, "f returns a struct by value"},
		{"-1", Interface, "f returns an error"},
		{"x", Single, "f returns a floating-point number"},
		{`io.EOF"); x("`, Interface, "f returns an error"},
		{"0", Several, "f returns more than one word"},
		{"0", String, "f returns more than one word"},
		{"x", Float, "f returns a floating-point number"},
		{"NaN", Float, "f returns a floating-point number"},
	} {
		var e *Error
		if _, err := (Spec{Func: "f", Reject: c.text, Result: c.result}).verdict(); !errors.As(err, &e) || e.Option != "--reject" || !strings.Contains(e.Msg, c.says) {
			t.Errorf("--reject %s of %s: %v, want %q", c.text, c.result, err, c.says)
		}
	}
}

// A function with a name of Go's is one, also where no program was looked at.
func TestGoByName(t *testing.T) {
	_, _, err := Source(Spec{Lib: "x", Func: "net.ParseIP", When: "u64(arg1) > 15", Reject: "0"})
	if err == nil || !strings.Contains(err.Error(), "what the Go function net.ParseIP returns is not known") {
		t.Errorf("%v", err)
	}
}

// What a Go function returns must be known: a word too few is garbage.
func TestRejectOfGo(t *testing.T) {
	for result, says := range map[string]string{"": "is not known (no debug information for f)", Float: "more than one word", "i64": ""} {
		_, err := Spec{Func: "f", Go: true, Reject: "0", Result: result, Unknown: "no debug information for f"}.verdict()
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("result %q: %v, want %q", result, err, says)
		}
	}
}

// Whatever is typed ends in an error or in one well-formed Go file with one function.
func FuzzSource(f *testing.F) {
	f.Add("vuln", "i32(arg1) > 256", "-22")
	f.Add("a.(*B).c", "len > 1 && u8(arg0) != 'x'", "void")
	f.Fuzz(func(t *testing.T, function, when, reject string) {
		_, source, err := Source(Spec{Func: function, When: when, Reject: reject, Params: known})
		if err != nil {
			return
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, "guard.go", source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("%v\n%s", err, source)
		}
		if len(file.Decls) != 2 {
			t.Fatalf("%d declarations\n%s", len(file.Decls), source)
		}
		if _, err := format.Source(source); err != nil {
			t.Fatal(err)
		}
	})
}
