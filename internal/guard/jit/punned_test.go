package jit

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// TestPuns compares every way to jump with what it must not change, and with where the
// decoder says that it leads.
func TestPuns(t *testing.T) {
	for _, c := range []struct {
		name, code string
		n, unused  int // bytes of the instruction; from where on nothing is read
		ways       int
	}{
		{"push %rbp; mov %rsp,%rbp", "554889e54883ec10", 1, 99, 1},
		{"xor %eax,%eax; ret; padding", "31c0c3cccccccccc", 2, 3, 2},
		{"mov 0x10(%rax),%rax; ret; padding", "488b4010c3cccccc", 4, 5, 4},
		{"movzbl (%rax),%eax; and $1,%eax; ret", "0fb60083e001c3cc", 3, 7, 3},
	} {
		code, err := hex.DecodeString(c.code)
		if err != nil {
			t.Fatal(err)
		}
		at := address.Addr(0x7f12_3456_7000)
		all := Puns(at, code, c.n, func(off int) bool { return off >= c.unused })
		if len(all) != c.ways {
			t.Errorf("%s: %d ways, want %d", c.name, len(all), c.ways)
		}
		for _, p := range all {
			checkPun(t, c.name, p, at, code, c.n, c.unused)
		}
	}
}

func checkPun(t *testing.T, name string, p Pun, at address.Addr, code []byte, n, unused int) {
	t.Helper()
	for range 200 {
		from := at.Add(rand.Int64N(5<<30) - 5<<29)
		to, ok := p.Next(from)
		if !ok {
			continue
		}
		b, err := p.Write(code, to)
		if err != nil || to < from {
			t.Fatalf("%s: to %v from %v on: %v", name, to, from, err)
		}
		if !bytes.Equal(b[n:min(unused, len(b))], code[n:min(unused, len(b))]) {
			t.Errorf("%s: % x changes what stays of % x", name, b, code)
		}
		i, err := amd64.Decode(b, at)
		if err != nil || i.Flow != amd64.FlowJump || i.Target != to || i.Len != p.Prefixes+5 {
			t.Errorf("%s: % x is %v to %v, %v, want %v", name, b, i, i.Target, err, to)
		}
		if got, ok := ReadPunned(at, b); !ok || got != to {
			t.Errorf("%s: % x is read as %v", name, b, got)
		}
	}
}

// TestNextMatch compares with a search one by one, on numbers whose upper bytes are few.
func TestNextMatch(t *testing.T) {
	for range 2000 {
		var fixed uint32
		for i := range 4 {
			fixed |= uint32(rand.IntN(2)*0xff) << (8 * i)
		}
		few := func() uint32 {
			return uint32(rand.IntN(3))<<24 | uint32(rand.IntN(3))<<16 | uint32(rand.IntN(3))<<8 | uint32(rand.IntN(3))
		}
		value, u := few()&fixed, few()
		want, found := uint32(0), false
		for x := u; x < u+1<<17; x++ {
			if x&fixed == value {
				want, found = x, true
				break
			}
		}
		got, ok := nextMatch(u, fixed, value)
		switch {
		case found && (!ok || got != want):
			t.Fatalf("from %#x, fixed %#x, value %#x: %#x, %v, want %#x", u, fixed, value, got, ok, want)
		case ok && (got < u || got&fixed != value):
			t.Fatalf("from %#x, fixed %#x, value %#x: %#x", u, fixed, value, got)
		}
	}
}

func TestReadPunnedOfOtherBytes(t *testing.T) {
	for _, s := range []string{"", "48", "4848484848", "e9000000", "48e9000000", "9090909090909090", "484848484ae9000000"} {
		b, _ := hex.DecodeString(s)
		if to, ok := ReadPunned(0x1000, b); ok {
			t.Errorf("%s leads to %v", s, to)
		}
	}
}
