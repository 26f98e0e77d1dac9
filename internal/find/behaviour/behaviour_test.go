package behaviour

import (
	"slices"
	"testing"
)

// code is a program of one function at 0, and data behind it.
type code []byte

func (c code) Fixed() bool { return false }

func (c code) Code(v uint64, n int) []byte {
	if v >= uint64(len(c)) {
		return nil
	}
	return c[v:min(v+uint64(n), uint64(len(c)))]
}

func (c code) Data(v uint64, n int) ([]byte, bool)  { return c.Code(v, n), v&0x10 != 0 }
func (c code) Linked(uint64) (string, uint64, bool) { return "", 0, false }
func (c code) Stub(uint64) (name string, to uint64) { return "", 0 }
func (c code) Callee(v uint64) Callee {
	return Callee{Enter: v&0x20 != 0, NoReturn: v&0x40 != 0, Reads: uint8(v)}
}
func (c code) Same(a, b uint64) bool               { return a < uint64(len(c)) && b < uint64(len(c)) }
func (c code) Text(uint64) []byte                  { return nil }
func observe(c code, w World, how Manner) []uint32 { return NewRunner(c).Observe(0, w, how) }
func number(n int) World                           { return World{Number: n} }
func sameIn(a, b code, worlds ...World) (same, n int) {
	for _, w := range worlds {
		if slices.Equal(observe(a, w, Manner{}), observe(b, w, Manner{})) {
			same++
		}
	}
	return same, len(worlds)
}

func worlds() []World {
	var out []World
	for n := range kinds {
		out = append(out, number(n))
	}
	return out
}

var (
	// if (p == 0) return 0; p->b = p->a + 3; return p->c
	checked = code{
		0x48, 0x85, 0xff, // test %rdi,%rdi
		0x74, 0x0d, // je 0x12
		0x8b, 0x47, 0x08, // mov 8(%rdi),%eax
		0x83, 0xc0, 0x03, // add $3,%eax
		0x89, 0x47, 0x10, // mov %eax,16(%rdi)
		0x8b, 0x47, 0x18, // mov 24(%rdi),%eax
		0xc3,             // ret
		0x31, 0xc0, 0xc3, // xor %eax,%eax; ret
	}
	// The same by another compiler: other registers, order and jumps.
	otherwise = code{
		0x31, 0xc0, // xor %eax,%eax
		0x48, 0x85, 0xff, // test %rdi,%rdi
		0x75, 0x01, // jne 8
		0xc3,             // ret
		0x55,             // push %rbp
		0x8b, 0x47, 0x18, // mov 24(%rdi),%eax
		0x8b, 0x4f, 0x08, // mov 8(%rdi),%ecx
		0x8d, 0x51, 0x03, // lea 3(%rcx),%edx
		0x89, 0x57, 0x10, // mov %edx,16(%rdi)
		0x5d, // pop %rbp
		0xc3, // ret
	}
	// What is behind the check, alone.
	part = checked[5:18]
)

func TestTwoCompilersOneBehaviour(t *testing.T) {
	ws := NewRunner(checked).Explore(0, Manner{})
	if same, n := sameIn(checked, otherwise, ws...); same != n || n < 2 {
		t.Errorf("the same in %d of %d worlds", same, n)
	}
	other := slices.Clone(otherwise)
	other[17] = 4 // adds 4
	if same, _ := sameIn(checked, other, worlds()...); same != 0 {
		t.Errorf("another function does the same in %d worlds", same)
	}
}

// What Explore finds has worlds in which the check fails, and there what was split off
// behind it does something else.
func TestExploreFindsTheCheck(t *testing.T) {
	ws := NewRunner(checked).Explore(0, Manner{})
	null := slices.ContainsFunc(ws, func(w World) bool {
		return slices.Contains(w.Set, Setting{Place{Argument, 0, 8}, 0})
	})
	if !null {
		t.Errorf("in none of the worlds the argument is 0: %v", ws)
	}
	if same, n := sameIn(checked, part, ws...); same == 0 || same == n {
		t.Errorf("what is behind the check does the same in %d of %d worlds", same, n)
	}
}

func TestRunsEnd(t *testing.T) {
	for name, c := range map[string]code{
		"nothing":                  {},
		"a loop":                   {0xeb, 0xfe},
		"a loop that writes":       {0x48, 0x89, 0x3f, 0x48, 0x83, 0xc7, 0x08, 0xeb, 0xf7},
		"a call of itself":         {0xe8, 0xfb, 0xff, 0xff, 0xff},
		"2^64 bytes":               {0x48, 0x83, 0xc9, 0xff, 0xf3, 0xaa, 0xc3},
		"an unknown instruction":   {0x0f, 0x01, 0xd0},
		"a division by 0":          {0x31, 0xc9, 0xf7, 0xf1, 0xc3},
		"the least by -1":          {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x48, 0x99, 0x48, 0x83, 0xc9, 0xff, 0x48, 0xf7, 0xf9, 0xc3},
		"a stack that is anywhere": {0x48, 0x89, 0xfc, 0x5b, 0xc3},
	} {
		r := NewRunner(c)
		for n := range kinds {
			if got := r.Observe(0, number(n), Manner{Deep: true}); len(got) > MaxSeen {
				t.Errorf("%s: %d seen", name, len(got))
			}
		}
		if r.Steps() > kinds*(maxSteps+maxScanned) {
			t.Errorf("%s: %d steps", name, r.Steps())
		}
	}
}

// FuzzRun executes any code: it must end soon, and do the same each time.
func FuzzRun(f *testing.F) {
	for _, c := range []code{checked, otherwise, {0xf3, 0x0f, 0x7e, 0x07, 0x66, 0x0f, 0x73, 0xd8, 0x05, 0x0f, 0x11, 0x46, 0x08, 0xc3}, {0x0f, 0xa4, 0xc2, 0x41, 0xd3, 0xe0, 0xff, 0xd0}} {
		f.Add([]byte(c), uint16(1), uint64(0), uint64(5))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint16, key, value uint64) {
		w := World{Number: int(n), Set: []Setting{{Place{Memory, key, uint8(n%8 + 1)}, value}, {Place{Argument, key % 6, 8}, value}}}
		r := NewRunner(code(b))
		got := r.Observe(0, w, Manner{Deep: n&1 != 0})
		if len(got) > MaxSeen || r.Steps() > maxSteps+maxScanned {
			t.Errorf("%d seen in %d steps", len(got), r.Steps())
		}
		if again := r.Observe(0, w, Manner{Deep: n&1 != 0}); !slices.Equal(got, again) {
			t.Errorf("another time otherwise")
		}
		if ws := r.Explore(0, Manner{}); len(ws) > MaxWorlds || r.Steps() > 3*maxExplored {
			t.Errorf("%d worlds in %d steps", len(ws), r.Steps())
		}
	})
}
