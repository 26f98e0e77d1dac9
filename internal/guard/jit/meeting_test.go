package jit

import (
	"strings"
	"testing"
)

// TestMeeting: what a loop asks of its counter is known where each way to its head says so, and
// only there.
func TestMeeting(t *testing.T) {
	// r3 counts up to r2, and At's check asks whether it is below.
	const loop = `
		ldxdw %r2, [%r1+0]
		ldxdw %r4, [%r1+8]
		ldxdw %r5, [%r1+16]
		BOUND
		mov %r3, 0
		ENTRY jsle %r2, 0, out
	again:
		HEAD
		CHECK jge %r3, %r2, bad
		add %r4, %r3
		BODY
		add %r3, 1
		jslt %r3, %r2, again
	out:
		stxdw [%r1+128], %r4
		mov %r0, 0x101
		exit
	bad:
		mov %r0, 0
		exit`
	for _, c := range []struct {
		name, what string // "this => that" on each line
		known      bool
	}{
		{"from 0 on, by 1", "", true},
		{"up to an int32", "BOUND => movsx3264 %r2, %r2", true},
		{"up to a uint32", "BOUND => mov32 %r2, %r2", true},
		{"from 5 on", "mov %r3, 0 => mov %r3, 5\njsle %r2, 0 => jsle %r2, 5", true},
		{"asked the other way round", "jge %r3, %r2, bad => jle %r2, %r3, bad", true},
		{"ended the other way round", "jslt %r3, %r2, again => jsgt %r2, %r3, again", true},
		{"asked as it is ended", "jge %r3, %r2, bad => jsge %r3, %r2, bad", true},
		{"unsigned, asked as it is ended", "jslt %r3 => jlt %r3\njsle %r2, 0 => jeq %r2, 0", true},
		{"the bound grows, as both sides see", "BODY => add %r2, 1", true},

		{"from -1 on", "mov %r3, 0 => mov %r3, -1\njsle %r2, 0 => jsle %r2, -1", false},
		{"from a number that is not known", "mov %r3, 0 => mov %r3, %r5\njsle %r2, 0 => jsle %r2, %r3", false},
		{"by 2", "add %r3, 1 => add %r3, 2", false},
		{"by -1", "add %r3, 1 => add %r3, -1", false},
		{"by what is not known", "add %r3, 1 => add %r3, %r5", false},
		{"in 32 bits", "add %r3, 1 => add32 %r3, 1", false},
		{"asked in 32 bits", "jge %r3, %r2, bad => jge32 %r3, %r2, bad", false},
		{"ended in 32 bits", "jslt %r3 => jslt32 %r3", false},
		{"entered in 32 bits", "jsle %r2, 0 => jsle32 %r2, 0", false},
		{"entered whatever the bound", "ENTRY jsle %r2, 0, out => ", false},
		{"entered above another bound", "jsle %r2, 0 => jsle %r5, 0", false},
		{"entered at the bound, too", "jsle %r2, 0 => jslt %r2, 0", false},
		{"ended at another bound", "jslt %r3, %r2, again => jslt %r3, %r5, again", false},
		{"ended behind the bound", "jslt %r3 => jsle %r3", false},
		{"ended unsigned, asked signed", "jge %r3, %r2, bad => jsge %r3, %r2, bad\njslt %r3 => jlt %r3", false},
		{"ended signed, asked unsigned of a number that jumps", "BODY => add %r3, %r5", false},
		{"the bound is another in each round", "HEAD => add %r2, 1", false},
		{"the bound is what was read", "HEAD => ldxdw %r2, [%r4+0]", false},
		{"the bound is what was read, above which 0 never is", "HEAD => ldxdw %r2, [%r4+0]\njge %r3, %r2 => jgt %r3, %r2\njslt %r3 => jle %r3", false},
		{"another way in", "ENTRY jsle %r2, 0, out => jeq %r5, 7, again\njsle %r2, 0, out", false},
		{"another way back, with the same number", "BODY => jeq %r5, 7, again", false},
		{"another way back, with another number", "BODY => add %r3, %r5\njeq %r5, 7, again", false},
	} {
		text := loop
		for _, change := range strings.Split(c.what, "\n") {
			if was, is, ok := strings.Cut(change, " => "); ok {
				if !strings.Contains(text, was) {
					t.Fatalf("%s: no %q", c.name, was)
				}
				text = strings.Replace(text, was, is, 1)
			} else if change != "" {
				text = strings.Replace(text, "BODY", "", 1)
				text = strings.Replace(text, "again:", change+"\nagain:", 1)
			}
		}
		for _, mark := range []string{"BOUND", "ENTRY", "HEAD", "CHECK", "BODY"} {
			text = strings.Replace(text, mark, "", 1)
		}
		f := lowered(t, text)
		was := f.branches()
		simplify(f)
		if known := f.branches() < was; known != c.known {
			t.Errorf("%s: %d branches of %d are left", c.name, f.branches(), was)
		}
	}
}
