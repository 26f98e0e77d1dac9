package cves

import "strings"

// builtCases are of guards that were also run in their programs, built from the vulnerable
// source, under the attack.
func builtCases() map[string][]call {
	text := func(s string) to { return to{s + "\x00"} }
	pair := func(key string, value, next any) to { return to{text(key), value, next} }
	compose := func(name string, list to, room int, reject bool) call {
		return call{name, "ComposeQueryEx", to{to{gap(64)}, list, room, 0, 1, 1}, reject}
	}
	citation := func(name, text string, offset int, reject bool) call {
		return call{name, "Citation", to{0, to{text}, len(text), len(text), offset}, reject}
	}
	conn := func(name, read string, reject bool) call {
		return call{name, "TryRead", to{to{gap(176), to{read}, int32(0), int32(len(read))}}, reject}
	}
	header := func(extras int) string {
		return "\x80\x01\x00\x00" + string([]byte{byte(extras)}) + strings.Repeat("\x00", 19)
	}
	zip := func(name string, args to, reject bool) call { return call{name, "OpenNewFile", args, reject} }
	long := strings.Repeat("n", 1<<16)
	return map[string][]call{
		"cve-2016-5180.go": {
			{"name", "CreateQuery", to{"example.com."}, false},
			{"escaped dot inside", "CreateQuery", to{"a\\.b.example"}, false},
			{"escaped dot at the end", "CreateQuery", to{"example\\."}, true},
			{"no end", "CreateQuery", to{strings.Repeat("a", 5000)}, true},
		},
		"cve-2018-19198.go": {
			compose("one", pair("k", text("v"), 0), 64, false),
			compose("as many as fit", pair("", 0, pair("", 0, pair("", 0, 0))), 3, false),
			compose("one too many", pair("", 0, pair("", 0, pair("", 0, pair("", 0, 0)))), 3, true),
			compose("long value", pair("k", text(strings.Repeat("v", 20)), 0), 64, true),
			{"only counted", "ComposeQueryEx", to{0, 0, 0, 0, 1, 1}, false},
		},
		"cve-2020-10931.go": {
			conn("set", header(8), false),
			conn("incr", header(20), false),
			conn("extras too long", header(21), true),
			conn("not all there yet", header(255)[:20], false),
			conn("text", strings.Repeat("get a ", 10), false),
		},
		"cve-2021-42836.go": {
			{"pattern", "Match", to{to{"abc"}, 3, to{"a*c*"}, 4}, false},
			{"stars", "Match", to{to{"abc"}, 3, to{strings.Repeat("*a", 17)}, 34}, true},
			{"very long", "Match", to{to{"abc"}, 3, to{"a"}, 5000}, true},
		},
		"cve-2023-33461.go": {
			{"value", "GetBoolean", to{to{1}, to{7, 0}, 3}, false},
			{"section", "GetBoolean", to{to{1}, to{0, 0}, 3}, true},
			{"no key", "GetBoolean", to{to{1}, 0, 3}, true},
		},
		"cve-2023-42821.go": {
			citation("citation", "[@a; @b]", 0, false),
			citation("of nothing", "[@a;]", 0, true),
			citation("of blanks", "[@a; \t ;@b]", 0, true),
			citation("no end", "[@a; @b", 0, false),
			citation("behind the end", "[@a]", 9, false),
		},
		"cve-2023-45853.go": {
			zip("file", to{0, "name", 0, 0, 0, 0, 0, "comment"}, false),
			zip("no comment", to{0, "name", 0, 0, 0xffff, 0, 0xffff, 0}, false),
			zip("long name", to{0, long, 0, 0, 0, 0, 0, 0}, true),
			zip("long comment", to{0, "name", 0, 0, 0, 0, 0, long}, true),
			zip("large extra field", to{0, "name", 0, 0, 0, 0, 0x10000, 0}, true),
		},
		"cve-2025-57052.go": {
			{"path", "GetPointer", to{0, "/a/10/b2/0"}, false},
			{"index with letters", "GetPointer", to{0, "/a/1A"}, true},
			{"index in the middle", "GetPointer", to{0, "/a/0:/b"}, true},
			{"whole", "GetPointer", to{0, ""}, false},
		},
	}
}
