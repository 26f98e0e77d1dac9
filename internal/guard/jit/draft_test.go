package jit

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// jump is a branch in code, from behind it to where it leads.
type jump struct{ at, end, to int }

// jumps lists the conditional branches of code up to an offset.
func jumps(t *testing.T, code []byte, upTo int) (all []jump) {
	t.Helper()
	for at := 0; at < upTo; {
		in, err := x86asm.Decode(code[at:], 64)
		if err != nil {
			t.Fatal(err)
		}
		end := at + in.Len
		if rel, ok := in.Args[0].(x86asm.Rel); ok && in.Op != x86asm.JMP {
			all = append(all, jump{at, end, end + int(rel)})
		}
		at = end
	}
	return all
}

// TestLoopsInALine: wherever a guard is placed, a loop that fits a line of code lies in one,
// and branches that can be short are.
func TestLoopsInALine(t *testing.T) {
	nop9 := []byte{0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}
	for _, g := range peerGuards {
		if !strings.Contains(g.name, "/loop") {
			continue
		}
		p := peerGuard(t, g.body)
		for before := range 40 {
			for at := codeAt; at < codeAt+codeLine; at += 16 {
				l := Layout{
					Code: at, Control: stateAt, Counters: sharedAt, Events: sharedAt + 0x1000, After: goesBack,
					Before: func(address.Addr) ([]byte, error) { return bytes.Repeat([]byte{0x90}, before), nil },
				}
				c, err := Compile(p, Site{Free: amd64.Set(amd64.RAX, amd64.R10, amd64.R11)}, l)
				if err != nil {
					t.Fatal(err)
				}
				loops := 0
				for _, j := range jumps(t, c.Bytes, c.Link) {
					first, last := int(at)+j.to, int(at)+j.end-1
					switch {
					case j.to > j.end:
						if j.end-j.at > 2 && j.to-j.end < codeLine-shortSlack {
							t.Errorf("%s at %v, %d bytes before: the branch at %#x is long", g.name, at, before, j.at)
						}
					case j.to < j.at:
						if loops++; first/codeLine != last/codeLine {
							t.Errorf("%s at %v, %d bytes before: a loop from %#x to %#x", g.name, at, before, j.to, j.end)
						}
					}
				}
				if loops != 1 {
					t.Errorf("%s: %d loops", g.name, loops)
				}
				l.Quiet = true
				if c, err = Compile(p, Site{}, l); err != nil || bytes.Contains(c.Bytes[:c.Link], nop9) {
					t.Errorf("%s at %v, quiet: padded, or %v", g.name, at, err)
				}
			}
		}
	}
}

// TestInnermost: loops are found by their branches back, those around others left out.
func TestInnermost(t *testing.T) {
	blocks := make([]*block, 8)
	for i := range blocks {
		blocks[i] = &block{id: i}
	}
	for from, to := range map[int][]int{0: {1}, 1: {2}, 2: {2, 3}, 3: {4}, 4: {3, 5}, 5: {1, 6}, 6: {7}, 7: {6}} {
		for _, s := range to {
			blocks[from].succs = append(blocks[from].succs, blocks[s])
		}
	}
	got := innermost(blocks)
	if len(got) != 3 || got[2] != 2 || got[3] != 4 || got[6] != 7 {
		t.Errorf("%v", got)
	}
}
