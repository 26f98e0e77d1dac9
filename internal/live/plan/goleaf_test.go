package plan

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// getter is mov 8(%rax),%rax; ret, in padding.
func getter(t *testing.T, entry address.Addr) Site {
	t.Helper()
	s, err := ChooseSite(Function{
		Name: "main.(*record).second", Entry: entry, Size: 5, Text: unhex(t, "48 8b 40 08/c3 cc cc cc cc cc cc cc cc cc cc cc"), Go: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWriteNamed shows, with bytes and text, how an instruction that may fault runs where
// it was moved to.
func TestWriteNamed(t *testing.T) {
	for _, c := range []struct {
		entry address.Addr
		want  string
	}{
		{0x4d1860, `
4d 85 f6                 test %r14,%r14
74 1a                    je 0x5000001f
4c 8d 64 24 f8           lea -0x8(%rsp),%r12
4d 3b 26                 cmp (%r14),%r12
72 10                    jb 0x5000001f
68 60 18 4d 00           pushq $0x4d1860
48 8b 40 08              mov 0x8(%rax),%rax
48 8d 64 24 08           lea 0x8(%rsp),%rsp
eb 04                    jmp 0x50000023
48 8b 40 08              mov 0x8(%rax),%rax
e9 XX XX XX XX           jmpq 0x4d1864
`},
		{0x7f12_3456_7860, `pushq $0x34567860
c7 44 24 04 12 7f 00 00  movl $0x7f12,0x4(%rsp)`},
	} {
		s := getter(t, c.entry)
		at := address.Addr(0x5000_0000)
		if c.entry > 1<<32 {
			at = c.entry - 0x1000_0000
		}
		code, err := s.writeAfter(at)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(t, code, at); !strings.Contains(got, strings.TrimSpace(c.want)) {
			t.Errorf("at %v:\n%s\nwant\n%s", c.entry, got, c.want)
		}
	}
}

// text is code as a listing; the displacement of the jump back is left out.
func text(t *testing.T, code []byte, at address.Addr) string {
	t.Helper()
	var b strings.Builder
	for off := 0; off < len(code); {
		i, err := amd64.Decode(code[off:], at.Add(int64(off)))
		if err != nil {
			t.Fatal(err)
		}
		bytes := fmt.Sprintf("% x", i.Bytes())
		if off+i.Len == len(code) {
			bytes = "e9 XX XX XX XX"
		}
		fmt.Fprintf(&b, "%-24s %v\n", bytes, i)
		off += i.Len
	}
	return b.String()
}

// TestPunnedSite shows what is written over a getter: the ret stays, a byte of padding is a
// part of the displacement.
func TestPunnedSite(t *testing.T) {
	s := getter(t, 0x4d1860)
	image := arena.Range{Start: 0x400000, End: 0x6c0000}
	space := arena.NewSpace(nil, []arena.Range{image}, arena.Info{})
	a, e, err := space.Entrance(image, s.Start, s.Original, s.Puns)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := patchOf(s, arena.Place{}, e)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := jit.ReadPunned(s.Start, patch); !ok || got != e.At || !a.Code().Contains(got) {
		t.Errorf("% x leads to %v, the entrance is at %v in %v", patch, got, e.At, a)
	}
	if patch[4] != 0xc3 || !bytes.Equal(s.Original, unhex(t, "48 8b 40 08 c3 cc cc cc")) || s.vacated() != s.Start+4 {
		t.Errorf("% x over % x, up to %v", patch, s.Original, s.vacated())
	}
	again, f, err := space.Entrance(image, s.Start, s.Original, s.Puns)
	if err != nil || again != a || f != e {
		t.Errorf("another guard gets %v in %v, %v, not %v", f, again, err, e)
	}
}

// TestPunnedSiteWithoutRoom: where all that the jump could lead to is in use, nothing is guarded.
func TestPunnedSiteWithoutRoom(t *testing.T) {
	s := getter(t, 0x4d1860)
	image := arena.Range{Start: 0x400000, End: 0x6c0000}
	space := arena.NewSpace(nil, []arena.Range{image, {Start: 0x6c0000, End: 1 << 47}}, arena.Info{})
	if a, e, err := space.Entrance(image, s.Start, s.Original, s.Puns); !errors.Is(err, arena.ErrNoGap) && e.At >= image.Start {
		t.Errorf("an entrance at %v in %v: %v", e.At, a, err)
	}
}
