package bpf_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// encodings has bytes and text side by side.
var encodings = []struct {
	text  string
	bytes []byte
}{
	{"exit", []byte{0x95, 0, 0, 0, 0, 0, 0, 0}},
	{"mov %r0, 1", []byte{0xb7, 0, 0, 0, 1, 0, 0, 0}},
	{"mov32 %r9, -1", []byte{0xb4, 0x09, 0, 0, 0xff, 0xff, 0xff, 0xff}},
	{"add %r1, %r2", []byte{0x0f, 0x21, 0, 0, 0, 0, 0, 0}},
	{"sdiv %r1, %r2", []byte{0x3f, 0x21, 1, 0, 0, 0, 0, 0}},
	{"smod32 %r3, 7", []byte{0x94, 0x03, 1, 0, 7, 0, 0, 0}},
	{"neg32 %r4", []byte{0x84, 0x04, 0, 0, 0, 0, 0, 0}},
	{"movsx3264 %r1, %r2", []byte{0xbf, 0x21, 32, 0, 0, 0, 0, 0}},
	{"movsx832 %r1, %r2", []byte{0xbc, 0x21, 8, 0, 0, 0, 0, 0}},
	{"be16 %r5", []byte{0xdc, 0x05, 0, 0, 16, 0, 0, 0}},
	{"le64 %r5", []byte{0xd4, 0x05, 0, 0, 64, 0, 0, 0}},
	{"bswap32 %r5", []byte{0xd7, 0x05, 0, 0, 32, 0, 0, 0}},
	{"ldxdw %r1, [%r10-8]", []byte{0x79, 0xa1, 0xf8, 0xff, 0, 0, 0, 0}},
	{"ldxb %r1, [%r2+0]", []byte{0x71, 0x21, 0, 0, 0, 0, 0, 0}},
	{"ldxsh %r1, [%r2+4]", []byte{0x89, 0x21, 4, 0, 0, 0, 0, 0}},
	{"stw [%r10-4], 5", []byte{0x62, 0x0a, 0xfc, 0xff, 5, 0, 0, 0}},
	{"stxh [%r10-4], %r3", []byte{0x6b, 0x3a, 0xfc, 0xff, 0, 0, 0, 0}},
	{"lock add [%r10-8], %r1", []byte{0xdb, 0x1a, 0xf8, 0xff, 0, 0, 0, 0}},
	{"lock fetch xor32 [%r10-8], %r1", []byte{0xc3, 0x1a, 0xf8, 0xff, 0xa1, 0, 0, 0}},
	{"lock cmpxchg [%r10-8], %r1", []byte{0xdb, 0x1a, 0xf8, 0xff, 0xf1, 0, 0, 0}},
	{"ja +2", []byte{0x05, 0, 2, 0, 0, 0, 0, 0}},
	{"ja32 -70000", []byte{0x06, 0, 0, 0, 0x90, 0xee, 0xfe, 0xff}},
	{"jeq %r1, 5, -3", []byte{0x15, 0x01, 0xfd, 0xff, 5, 0, 0, 0}},
	{"jslt32 %r1, %r2, +1", []byte{0xce, 0x21, 1, 0, 0, 0, 0, 0}},
	{"call count", []byte{0x85, 0, 0, 0, 1, 0, 0, 0}},
	{"call 99", []byte{0x85, 0, 0, 0, 99, 0, 0, 0}},
	{"call local +4", []byte{0x85, 0x10, 0, 0, 4, 0, 0, 0}},
	{"lddw %r1, 0x1122334455667788", []byte{0x18, 1, 0, 0, 0x88, 0x77, 0x66, 0x55, 0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11}},
	{"lddw %r1, symbol 2", []byte{0x18, 0x91, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
	{"lddw %r1, rodata 16", []byte{0x18, 0xa1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
}

func TestTextAndBytes(t *testing.T) {
	for _, tt := range encodings {
		insns, err := bpf.Assemble(tt.text)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if b, err := bpf.Encode(insns); err != nil || !bytes.Equal(b, tt.bytes) {
			t.Errorf("%s: encoded % x, %v; want % x", tt.text, b, err, tt.bytes)
		}
		decoded, err := bpf.Decode(tt.bytes)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if got := strings.TrimSpace(bpf.Disassemble(decoded)); got != tt.text {
			t.Errorf("% x: disassembled %q, want %q", tt.bytes, got, tt.text)
		}
	}
}

func TestDecodeErrorsNameTheSlot(t *testing.T) {
	exit := encodings[0].bytes
	tests := []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"cut off", append(bytes.Clone(exit), 1, 2, 3), "slot 1 "},
		{"lddw at the end", append(bytes.Clone(exit), 0x18, 0, 0, 0, 0, 0, 0, 0), "slot 1:"},
		{"lddw before another instruction", append([]byte{0x18, 0, 0, 0, 0, 0, 0, 0}, exit...), "slot 0:"},
	}
	for _, tt := range tests {
		if _, err := bpf.Decode(tt.bytes); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
	if _, err := bpf.Encode([]bpf.Insn{{Dst: 16}}); err == nil || !strings.Contains(err.Error(), "slot 0") {
		t.Errorf("register 16: error %v, want one that names slot 0", err)
	}
}

func TestAssembleErrorsNameTheLine(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"frobnicate %r1", "unknown mnemonic"},
		{"mov %r0", "takes 2 operands, not 1"},
		{"exit %r0", "takes 0 operands, not 1"},
		{"mov %r11, 0", "not a register"},
		{"mov %r50, 0", "not a register"},
		{"mov %r1, 0x100000000", "does not fit 32 bits"},
		{"mov %r1, 2147483648", "does not fit 32 bits"},
		{"mov %r1, 1_0", "not a number"},
		{"mov %r1, five", "not a number"},
		{"ldxb %r0, %r1", "not an address"},
		{"ldxb %r0, [%r1+0x10000]", "does not fit 16 bits"},
		{"ldxb %r0, [%r1+zz]", "does not fit 16 bits"},
		{"jeq %r1, 0, nowhere", "no label nowhere"},
		{"jeq %r1, 0, +99999", "too far"},
		{"lock", "takes an operation"},
		{"lock nand [%r10-8], %r1", "unknown atomic"},
		{"lock or [%r10-8]", "takes 2 operands, not 1"},
		{"lddw %r1, 0x10000000000000000", "not a 64-bit number"},
		{"1bad:", "not a label"},
		{"-- comment", "unknown mnemonic"},
		{"call nothing", "not a number"},
	} {
		_, err := bpf.Assemble("mov %r0, 0\n" + tt.line + "\nexit")
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "assembler line 2: ") {
			t.Errorf("%s: error %v, want line 2 and %q", tt.line, err, tt.want)
		}
	}
	if _, err := bpf.Assemble("a:\nexit\na:\n"); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("label defined twice: error %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, tt := range encodings {
		f.Add(tt.bytes)
	}
	f.Add([]byte{0x18, 0xa1, 1, 0, 2, 0, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0}) // fields that a 64-bit immediate does not use
	f.Fuzz(func(t *testing.T, b []byte) {
		insns, err := bpf.Decode(b)
		if err != nil {
			return
		}
		back, err := bpf.Encode(insns)
		if err != nil || !bytes.Equal(b, back) {
			t.Errorf("% x encodes back as % x, %v", b, back, err)
		}
		text := bpf.Disassemble(insns)
		if strings.Contains(text, ".slot") {
			return // has no text
		}
		again, err := bpf.Assemble(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if back, err := bpf.Encode(again); err != nil || !bytes.Equal(b, back) {
			t.Errorf("% x assembles back as % x, %v:\n%s", b, back, err, text)
		}
	})
}

func FuzzAssemble(f *testing.F) {
	for _, tt := range encodings {
		f.Add(tt.text)
	}
	f.Add("loop:\njne %r0, 0, loop # again\nexit")
	f.Fuzz(func(t *testing.T, text string) {
		insns, err := bpf.Assemble(text)
		if err != nil {
			return
		}
		again, err := bpf.Assemble(bpf.Disassemble(insns))
		if err != nil || len(again) != len(insns) {
			t.Fatalf("%q: %d instructions read back as %d, %v", text, len(insns), len(again), err)
		}
		for pc := range insns {
			if insns[pc] != again[pc] {
				t.Errorf("%q: %v read back as %v", text, insns[pc], again[pc])
			}
		}
	})
}
