package amd64

import (
	"bytes"
	"errors"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

func TestRelocate(t *testing.T) {
	const from, to = address.Addr(0x401000), address.Addr(0x301000)
	for _, c := range []struct {
		name, code, want string
		steps            []Step
		falls            bool
	}{
		{"plain: push %rbx; mov %rdi,%rbx", "53 48 89 fb", "53 48 89 fb", []Step{{0, 0}, {1, 1}}, true},
		{"lea 0x10(%rip),%rax", "48 8d 05 10 00 00 00", "48 8d 05 10 00 10 00", []Step{{0, 0}}, true},
		{"cmpb $0,0x10(%rip)", "80 3d 10 00 00 00 00", "80 3d 10 00 10 00 00", []Step{{0, 0}}, true},
		{"jmp rel8 becomes rel32", "eb 10", "e9 0d 00 10 00", []Step{{0, 0}}, false},
		{"jmp rel32", "e9 00 00 00 00", "e9 00 00 10 00", []Step{{0, 0}}, false},
		{"je rel8 becomes rel32", "74 10", "0f 84 0c 00 10 00", []Step{{0, 0}}, true},
		{"je rel32", "0f 84 10 00 00 00", "0f 84 10 00 10 00", []Step{{0, 0}}, true},
		{"jrcxz over a short jump", "e3 10", "e3 02 eb 05 e9 09 00 10 00", []Step{{0, 0}}, true},
		{"loop within: dec; loop back", "ff c8 e2 fc", "ff c8 e2 02 eb 05 e9 f5 ff ff ff", []Step{{0, 0}, {2, 2}}, true},
		{"forward within: je +1; push; nop", "74 01 50 90", "0f 84 01 00 00 00 50 90", []Step{{0, 0}, {2, 6}, {3, 7}}, true},
		{"a branch to the run's end leaves it", "74 01 50", "0f 84 fd ff 0f 00 50", []Step{{0, 0}, {2, 6}}, true},
		{"call: push of the original return address", "e8 00 10 00 00",
			"ff 35 05 00 00 00 e9 fa 0f 10 00 05 10 40 00 00 00 00 00", []Step{{0, 0}}, false},
		{"call *%rax", "ff d0", "ff 35 02 00 00 00 ff e0 02 10 40 00 00 00 00 00", []Step{{0, 0}}, false},
		{"call *%r11", "41 ff d3", "ff 35 03 00 00 00 41 ff e3 03 10 40 00 00 00 00 00", []Step{{0, 0}}, false},
		{"call *0x10(%rip)", "ff 15 10 00 00 00",
			"ff 35 06 00 00 00 ff 25 0a 00 10 00 06 10 40 00 00 00 00 00", []Step{{0, 0}}, false},
		{"ret", "c3", "c3", []Step{{0, 0}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Relocate(unhex(t, c.code), from, to)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.Code, unhex(t, c.want)) {
				t.Errorf("% x\nwant %s", r.Code, c.want)
			}
			if len(r.Steps) != len(c.steps) || r.Falls != c.falls {
				t.Fatalf("steps %v, falls %v; want %v, %v", r.Steps, r.Falls, c.steps, c.falls)
			}
			for n := range r.Steps {
				if r.Steps[n] != c.steps[n] {
					t.Errorf("step %d: %v, want %v", n, r.Steps[n], c.steps[n])
				}
			}
		})
	}
}

func TestRelocateRefuses(t *testing.T) {
	for _, c := range []struct {
		name, code string
		to         address.Addr
		want       error
	}{
		{"call *%rax; nop", "ff d0 90", 0x1000, ErrCallInside},
		{"syscall", "0f 05", 0x1000, ErrSystem},
		{"int $0x80", "cd 80", 0x1000, ErrSystem},
		{"lea 0(%rip) to 4 GiB away", "48 8d 05 00 00 00 00", 0x2_0000_0000, ErrReach},
		{"jmp to 4 GiB away", "eb 00", 0x2_0000_0000, ErrReach},
		{"call *8(%rsp)", "ff 54 24 08", 0x1000, ErrImmovable},
		{"lcall", "ff 18", 0x1000, ErrImmovable},
		{"lea 0(%eip),%rax", "67 48 8d 05 00 00 00 00", 0x1000, ErrImmovable},
		{"je into its own middle", "74 ff", 0x1000, ErrImmovable},
		{"half an instruction", "48 8d", 0x1000, ErrTruncated},
		{"push %es", "06", 0x1000, ErrUndecodable},
	} {
		if r, err := Relocate(unhex(t, c.code), 0x400000, c.to); !errors.Is(err, c.want) {
			t.Errorf("%s: % x, %v; want %v", c.name, r.Code, err, c.want)
		}
	}
}

func FuzzRelocate(f *testing.F) {
	f.Add([]byte{0x74, 0x01, 0x50, 0x90}, int32(-0x100000))
	f.Add([]byte{0xff, 0x15, 0, 0, 0, 0}, int32(0x100000))
	f.Fuzz(func(t *testing.T, code []byte, by int32) {
		if len(code) > 64 {
			return
		}
		const from = address.Addr(0x7f00_0000_0000)
		r, err := Relocate(code, from, from.Add(int64(by)))
		if err != nil {
			return
		}
		for n, s := range r.Steps {
			if s.New >= len(r.Code) || s.Old >= len(code) || n > 0 && s.Old <= r.Steps[n-1].Old {
				t.Fatalf("% x: step %v outside % x", code, s, r.Code)
			}
			if _, err := Decode(r.Code[s.New:], 0); err != nil {
				t.Fatalf("% x became % x, which does not decode at %d: %v", code, r.Code, s.New, err)
			}
		}
	})
}
