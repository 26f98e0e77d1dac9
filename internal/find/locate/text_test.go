package locate

import (
	"os/exec"
	"strings"
	"testing"
)

func TestPadding(t *testing.T) {
	for _, c := range []struct {
		bytes, text string
		want        uint64
	}{
		{"", "nothing", 0},
		{"\xcc\xcc\xcc\x55", "int3 ×3; push rbp", 3},
		{"\x00\x00\x55", "zeros; push rbp", 2},
		{"\x90\x55", "nop; push rbp", 1},
		{"\x66\x90\x55", "xchg ax, ax; push rbp", 2},
		{"\x0f\x1f\x00\x55", "nopl (rax)", 3},
		{"\x0f\x1f\x40\x00\x55", "nopl 0(rax)", 4},
		{"\x0f\x1f\x44\x00\x00\x55", "nopl 0(rax,rax)", 5},
		{"\x66\x0f\x1f\x44\x00\x00\x55", "nopw 0(rax,rax)", 6},
		{"\x0f\x1f\x80\x00\x00\x00\x00\x55", "nopl 0(rax), disp32", 7},
		{"\x0f\x1f\x84\x00\x00\x00\x00\x00\x55", "nopl 0(rax,rax), disp32", 8},
		{"\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00\x55", "cs nopw 0(rax,rax), disp32", 10},
		{"\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00\x0f\x1f\x00\x55", "data16 cs nopw …; nopl (rax)", 14},
		{"\x0f\x1f\x84\x00\x00", "a nopl that is cut off", 0},
		{"\x66\x66\x66", "prefixes alone", 0},
		{"\x0f\x05", "syscall", 0},
		{"\x66\x55", "push bp", 0},
		{"\xc3", "ret", 0},
	} {
		if got := padding([]byte(c.bytes)); got != c.want {
			t.Errorf("%s: %d bytes of padding, want %d", c.text, got, c.want)
		}
	}
}

func TestCodeSize(t *testing.T) {
	for _, c := range []struct {
		bytes, text string
		want        uint64
	}{
		{"\xc3\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00", "ret; cs nopw", 1},
		{"\xe9\x00\x01\x00\x00\xcc\xcc", "jmp +256; int3; int3", 5},
		{"\xb8\x90\x90\x90\x90\xc3\x90", "mov eax, 0x90909090; ret; nop", 6},
		{"\x90\x90\xc3", "nop; nop; ret", 3},
		{"\xc3\x0f\x0b", "ret; ud2", 3},
		{"\xc3\xff\xff\xff", "ret; what is no instruction", 4},
		{"\xc3", "ret", 1},
	} {
		if got := codeSize([]byte(c.bytes)); got != c.want {
			t.Errorf("%s: %d bytes of code, want %d", c.text, got, c.want)
		}
	}
}

// Without a size in the symbol, the unwind table or the next function has it.
func TestSizes(t *testing.T) {
	p, set := images(t, exec.Command(gcc(t, "bare", "-O1", "testdata/bare.c")))
	for _, c := range []struct{ name, how string }{
		{"no_size", "size up to the next function"},
		{"no_size_framed", "size from .eh_frame"},
		{"last", ".symtab last"},
	} {
		f := findOne(t, set, Query{Func: c.name})
		if f.Entry != p.addrs[c.name] || f.Size != 6 || !strings.Contains(f.How, c.how) {
			t.Errorf("%s at %v, %d bytes, %s; want %v, 6 bytes, %s", c.name, f.Entry, f.Size, f.How, p.addrs[c.name], c.how)
		}
		inMemory(t, p, f)
	}
	if f := findOne(t, set, Query{Func: "no_size_framed"}); len(f.Text) != 32 && len(f.Text) != 16 {
		t.Errorf("%d bytes with padding, want up to the next multiple of 16 or 32", len(f.Text))
	}
}
