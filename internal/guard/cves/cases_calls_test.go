package cves

import (
	"encoding/binary"
	"maps"
	"strings"
)

func be16(n int) string { return string(binary.BigEndian.AppendUint16(nil, uint16(n))) }
func be32(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }

// cases are calls of prepatches, by file: attacks, usual calls, and what is just right.
func cases() map[string][]call {
	all := map[string][]call{}
	maps.Copy(all, cryptoCases())
	maps.Copy(all, protocolCases())
	maps.Copy(all, fileCases())
	maps.Copy(all, textCases())
	maps.Copy(all, builtCases())
	return all
}

func cryptoCases() map[string][]call {
	bignum := func(n int) to { return to{to{n}, int32(1), int32(1), int32(0)} }
	der := func(size int) string { return "\x30" + string(rune(size)) + strings.Repeat("d", 33) }
	block := func(pad int, text string) string { return "\x01" + strings.Repeat("\xff", pad) + "\x00" + text }
	padded := func(name, b string, reject bool) call {
		return call{name, "PaddingCheck", to{0, 0, to{b}, len(b)}, reject}
	}
	extensions := func(kind, size int) to {
		ext := be16(kind) + be16(size) + strings.Repeat("i", size)
		return to{be16(len(ext)) + ext}
	}
	hello := func(name string, session, kind, size int, reject bool) call {
		return call{name, "ParseExtensions", to{session, to{extensions(kind, size)}, end(2)}, reject}
	}
	return map[string][]call{
		"cve-2022-0778.go": {
			{"prime", "ModSqrt", to{0, 0, bignum(13)}, false},
			{"even", "ModSqrt", to{0, 0, bignum(14)}, true},
			{"not prime", "ModSqrt", to{0, 0, bignum(15)}, true},
			{"no words", "ModSqrt", to{0, 0, to{0, int32(0), int32(1), int32(0)}}, true},
			{"unreadable: NULL", "ModSqrt", to{0, 0, 0}, true},
		},
		"cve-2006-4339.go": {
			padded("signature", block(200, der(33)), false),
			padded("something behind the digest", block(100, der(33)+"garbage"), true),
			padded("digest that is too long", block(200, der(34)), true),
			padded("no end of the padding", "\x01"+strings.Repeat("\xff", 100), true),
			padded("short padding", block(7, der(33)), true),
			{"unreadable", "PaddingCheck", to{0, 0, 0, 100}, true},
		},
		"cve-2016-6304.go": helloCases(hello),
		"cve-2023-48795.go": {
			{"ignore before the keys", "Ignore", to{to{gap(168), int32(3), gap(20)}, 2}, true},
			{"keys", "Newkeys", to{to{gap(168), int32(3), gap(20)}}, false},
			{"ignore behind the keys", "Ignore", to{at(1), 2}, false},
			{"another's keys", "Unimplemented", to{at(0), 3}, true},
			{"end", "Free", to{at(1)}, false},
			{"the same address anew", "Ignore", to{at(1), 2}, true},
		},
	}
}

// helloCases are ClientHellos of two connections: each of the first adds a thousand bytes
// of responder ids.
func helloCases(hello func(name string, session, kind, size int, reject bool) call) (calls []call) {
	for n := range 17 {
		calls = append(calls, hello("renegotiation", 7, 5, 1000, 1000*(n+1) > 16<<10))
	}
	return append(calls,
		hello("other extension", 7, 13, 3000, false),
		hello("no ids", 7, 5, 5, false),
		hello("another connection", 8, 5, 1000, false),
		call{"end", "Free", to{7}, false},
		hello("the same address anew", 7, 5, 1000, false))
}

func protocolCases() map[string][]call {
	frame := func(kind byte, size int) string {
		return be32(size)[1:] + string(kind) + "\x04\x00\x00\x00\x01" + strings.Repeat("h", size)
	}
	received := func(name string, session int, b string, reject bool) call {
		return call{name, "MemRecv", to{session, to{b}, len(b)}, reject}
	}
	more := func(n int) string { return strings.Repeat(frame(9, 3), n) }
	record := func(kind, size int) string {
		return "\xc0\x0c" + be16(kind) + be16(1) + be32(60) + be16(size) + strings.Repeat("r", size)
	}
	reply := func(name string, room int, answers []string, reject bool) call {
		b := "id\x81\x80" + be16(1) + be16(len(answers)) + "\x00\x00\x00\x00" + "\x03www\x04test\x00" + be16(1) + be16(1) + strings.Join(answers, "")
		return call{name, "ParseAReply", to{to{b}, len(b), 0, to{gap(64)}, to{int32(room)}}, reject}
	}
	capability := func(name, b string, reject bool) call {
		return call{name, "CapabilityMsgParse", to{0, to{b}, len(b)}, reject}
	}
	asked := func(name string, host, request byte, reject bool) call {
		return call{name, "ProcessPrivate", to{to{gap(40), uint16(2), uint16(123), "\x0a\x00\x00" + string(host), gap(56), int32(48), "\x17\x00\x03" + string(request)}}, reject}
	}
	env := func(name string, size int, reject bool) call {
		entries := to{to{"HTTP_HOST\x00"}, to{"example.org\x00"}, 0, to{"KEY\x00"}, 0, 0, to{"COOKIE\x00"}, to{strings.Repeat("c", size), "\x00"}, 0}
		return call{name, "SendHeaders", to{to{gap(256), to{0, int32(24), int32(3), int32(8), int32(0), entries}}}, reject}
	}
	return map[string][]call{
		"cve-2024-28182.go": {
			received("headers", 1, frame(1, 9)+more(8)+frame(0, 5), false),
			received("more than eight", 2, frame(1, 9)+more(9), true),
			received("in two parts", 3, frame(1, 9)+more(5), false),
			received("in two parts", 3, more(4), true),
			received("a frame in two parts", 4, more(6)+frame(9, 9)[:10], false),
			received("a frame in two parts", 4, frame(9, 9)[10:]+more(1), false),
			received("a frame in two parts", 4, more(1), true),
			{"end", "Del", to{3}, false},
			received("the same address anew", 3, more(5), false),
		},
		"cve-2020-8277.go": {
			reply("one", 1, []string{record(1, 4)}, false),
			reply("a name and two addresses", 2, []string{record(5, 9), record(1, 4), record(1, 4)}, false),
			reply("three for two", 2, []string{record(1, 4), record(1, 4), record(1, 4)}, true),
			reply("cut off", 5, []string{record(1, 4), "\xc0\x0c\x00"}, true),
			{"nobody asks for addresses", "ParseAReply", to{to{"x"}, 1, 0, 0, 0}, false},
		},
		"cve-2022-37032.go": {
			capability("one", "\x00\x01\x04\x00\x01\x00\x01", false),
			capability("two", "\x00\x02\x00\x01\x40\x02\x00\x78", false),
			capability("cut off in its header", "\x00\x02\x00\x00\x01", true),
			capability("cut off", "\x00\x01\x04\x00\x01", true),
		},
		"cve-2013-5211.go": {
			asked("list", 1, 42, false), asked("list", 1, 20, false), asked("list", 1, 42, false),
			asked("fourth list", 1, 42, true),
			asked("from another", 2, 42, false),
			asked("something else", 1, 0, false),
			{"unreadable", "ProcessPrivate", to{0}, true},
		},
		"cve-2020-11984.go": {
			env("usual", 100, false),
			env("just right", 0xffff-4-(2+9)-(2+11)-(2+3)-(2+6)-2, false),
			env("too long", 0xffff-4-(2+9)-(2+11)-(2+3)-(2+6)-1, true),
			env("far too long", 200_000, true),
		},
	}
}

func fileCases() map[string][]call {
	gd2 := func(name string, ncx, ncy int, index string, reject bool) call {
		b := "gd2\x00" + be16(2) + be16(100) + be16(100) + be16(64) + be16(2) + be16(ncx) + be16(ncy) + index
		return call{name, "CreateFromGd2Ptr", to{len(b), to{b}}, reject}
	}
	chunk := func(offset, size int) string { return be32(offset) + be32(size) }
	font := func(name string, tag string, records, width, length int, reject bool) call {
		b := "\x00\x01\x00\x00" + be16(2) + "\x00\x00\x00\x00\x00\x00" +
			"glyf" + be32(0) + be32(0) + be32(0) + tag + be32(0) + be32(44) + be32(length) +
			be16(0) + be16(records) + be32(width) + strings.Repeat("w", 64)
		return call{name, "NewMemoryFace", to{0, to{b}, len(b), 0, 0}, reject}
	}
	stream := func(name string, ranges, selectors int, reject bool) call {
		var b bits
		b.put(0x425a6839, 32)
		b.put(0x314159265359, 48)
		b.put(0, 32+1+24)
		b.put(uint64(ranges), 16)
		for range ones(ranges) {
			b.put(0xffff, 16)
		}
		b.put(6, 3)
		b.put(uint64(selectors), 15)
		b.put(0, 64)
		return call{name, "Decompress", to{to{to{string(b.out)}, int32(len(b.out)), int32(0)}}, reject}
	}
	svg := func(name, text string, reject bool) call {
		return call{name, "NewFromData", to{to{text}, len(text), 0}, reject}
	}
	const include = `<svg xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href='`
	chunkOf := func(name string, parser, size int, reject bool) call {
		return call{name, "ParseChunk", to{parser, 0, size, 0}, reject}
	}
	return map[string][]call{
		"cve-2016-3074.go": {
			gd2("two chunks", 2, 1, chunk(34, 100)+chunk(134, 5), false),
			gd2("negative size", 2, 1, chunk(34, 100)+chunk(134, -5), true),
			gd2("negative offset", 1, 2, chunk(-34, 100)+chunk(134, 5), true),
			gd2("more chunks than there are", 200, 200, chunk(34, 100), true),
			{"another format", "CreateFromGd2Ptr", to{4, to{"\x89PNG"}}, false},
		},
		"cve-2014-9657.go": {
			font("no such table", "head", 9, 0, 8, false),
			font("records that fit", "hdmx", 8, 8, 72, false),
			font("records of nothing", "hdmx", 8, 0, 72, true),
			font("negative records", "hdmx", 8, -8, 72, true),
			font("more than the table has", "hdmx", 9, 8, 72, true),
			font("a table of nothing", "hdmx", 0, 8, 4, true),
		},
		"cve-2019-12900.go": {
			stream("usual", 0x8001, 700, false),
			stream("just right", 0, 18002, false),
			stream("one too many", 0, 18003, true),
			stream("too many behind sixteen ranges", 0xffff, 30000, true),
			stream("none", 5, 0, true),
			{"later in the stream", "Decompress", to{to{0, int32(0), int32(9)}}, false},
		},
		"cve-2023-38633.go": {
			svg("picture", `<svg><image href="../x?y"/></svg>`, false),
			svg("includes what lies beside it", include+`a.svg'/></svg>`, false),
			svg("query", include+`.?/../../../etc/passwd'/></svg>`, true),
			svg("upwards, the second", include+`a.svg'/><xi:include href="b/../../c"/></svg>`, true),
			svg("no end", include+`a.svg?`, false),
		},
		"cve-2022-40303.go": {
			chunkOf("document", 1, 4096, false),
			chunkOf("just right", 1, 1<<29-1-4096, false),
			chunkOf("one byte more", 1, 1, true),
			chunkOf("another document", 2, 1<<20, false),
			chunkOf("negative", 2, -1, true),
			{"end", "FreeParserCtxt", to{1}, false},
			chunkOf("the same address anew", 1, 4096, false),
		},
	}
}

// bits are written from the highest on.
type bits struct {
	out  []byte
	used int // of the last byte
}

func (b *bits) put(v uint64, n int) {
	for n--; n >= 0; n-- {
		if b.used%8 == 0 {
			b.out = append(b.out, 0)
		}
		if n < 64 {
			b.out[len(b.out)-1] |= byte(v>>n&1) << (7 - b.used%8)
		}
		b.used++
	}
}

func ones(n int) (count int) {
	for ; n != 0; n &= n - 1 {
		count++
	}
	return count
}

func textCases() map[string][]call {
	path := func(name string, reject bool) call { return call{name, "ContainsDotDot", to{name}, reject} }
	pattern := func(text string, reject bool) call {
		return call{text[:min(len(text), 30)], "Parse", to{to{text}, len(text), 0}, reject}
	}
	printf := func(format string, reject bool) call {
		value := to{gap(12), int32(len(format)), to{format}}
		return call{format, "PrintfFunc", to{0, 1, to{value}}, reject}
	}
	address := func(text string, reject bool) call {
		return call{text, "ParseIP", to{to{text}, len(text)}, reject}
	}
	json := func(name, text string, reject bool) call {
		return call{name, "Loadb", to{to{text}, len(text), 0, 0}, reject}
	}
	unended := to{strings.Repeat("s", 1000)} // unreadable before its end
	long := to{strings.Repeat("s", 1<<20), "\x00"}
	formatted := func(name, format string, registers, stack to, reject bool) call {
		saved := append(to{0, 0}, registers...) // the first two words are not variadic
		return call{name, "Vappendf", to{0, format, to{int32(48 - 8*len(registers)), int32(176), stack, append(to{gap(8 * (4 - len(registers)))}, saved...)}}, reject}
	}
	return map[string][]call{
		"cve-2007-4131.go": {
			path("usr/share/doc", false), path("..", true), path("a/../b", true), path("a/..", true),
			path("..a/b..", false), path("", false), path("a//..//b", true), path(strings.Repeat("a", 4096), true),
			{"unreadable: NULL", "ContainsDotDot", to{0}, false},
		},
		"cve-2022-41715.go": {
			pattern("^[a-z]+\\{[0-9]{1,3}$", false),
			pattern("(xx{0,20}){1000}", false),
			pattern("("+strings.Repeat("x", 2000)+"){1000}", true),
			pattern("(("+strings.Repeat("x", 50)+"){150}){900}", true),
			pattern(strings.Repeat("(", 40), true),
			pattern(strings.Repeat("x", 17<<10), true),
		},
		"cve-2020-13434.go": {
			printf("%10.2f and %%", false), printf("%.100000000f", false), printf("%.2147483647f", true),
			printf("100% of 2000000000", false), printf("%-+ #0999999999d", true), printf("%*d", true),
		},
		"cve-2021-29923.go": {
			address("10.1.2.3", false), address("0.0.0.0", false), address("010.1.2.3", true), address("10.1.2.03", true),
			address("::ffff:010.1.2.3", false), address("1.2", false),
		},
		"cve-2016-4425.go": {
			json("object", `{"a": [1, 2, {"b": "]]]["}]}`, false),
			json("just right", strings.Repeat("[", 2048)+strings.Repeat("]", 2048), false),
			json("too deep", strings.Repeat("[", 2049), true),
			json("brackets in a string", `"\"`+strings.Repeat("[", 3000)+`"`, false),
			json("side by side", strings.Repeat("[]", 3000), false),
		},
		"cve-2022-35737.go": {
			formatted("numbers", "%d of %s, %.3f %%", to{5, 0}, to{0}, false),
			formatted("quoted", "INSERT %Q, %w", to{to{"it's\x00"}, to{"a name\x00"}}, to{0}, false),
			formatted("on the stack", "%d %Q", to{}, to{3, to{"text\x00"}}, false),
			formatted("unreadable", "%q", to{unended}, to{0}, false),
			formatted("too long", "%d %q", to{}, to{3, long}, true),
		},
	}
}
