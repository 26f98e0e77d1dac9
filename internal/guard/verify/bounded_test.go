package verify

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hostile are guards written to cost the verifier as much as they can.
func hostile() map[string]string {
	var branches, merges, spills, diamonds, nest, stores strings.Builder
	for k := range 2000 {
		fmt.Fprintf(&branches, "jeq %%r2, %d, l%d\nadd %%r3, %d\nl%d:\n", k, k, k, k)
	}
	for k := range 1500 {
		fmt.Fprintf(&diamonds, "jset %%r2, %d, a%d\nxor %%r3, %%r2\nja b%d\na%d:\nmul %%r3, %%r3\nadd %%r%d, %%r3\nb%d:\n", k+1, k, k, k, 4+k%6, k)
	}
	for k := range 500 {
		fmt.Fprintf(&spills, "stxdw [%%r10-%d], %%r2\nmul %%r2, %%r3\njgt %%r2, %%r3, s%d\nmov %%r4, %d\nstxdw [%%r10-%d], %%r4\ns%d:\n", 8+k%64*8, k, k, 8+(k+7)%64*8, k)
	}
	for k := range 500 {
		fmt.Fprintf(&merges, "jeq %%r2, %d, end\nadd %%r3, %d\n", k, k)
	}
	for k := range 60 {
		fmt.Fprintf(&nest, "n%d:\n", k)
	}
	for k := range 60 {
		fmt.Fprintf(&nest, "add %%r%d, 1\nxor %%r%d, %%r%d\njne %%r%d, %%r%d, n%d\n", 2+k%8, 2+(k+3)%8, 2+k%8, 2+k%8, 2+(k+1)%8, 59-k)
	}
	for k := range 2000 {
		fmt.Fprintf(&stores, "mov %%r3, %%r10\nadd %%r3, %%r2\nstxb [%%r3-512], %%r2\nstdw [%%r10-%d], %d\n", 8+k%64*8, k)
	}
	load := "ldxdw %r2, [%r1+0]\nldxdw %r3, [%r1+8]\nldxdw %r4, [%r1+16]\nldxdw %r5, [%r1+24]\nldxdw %r6, [%r1+32]\nldxdw %r7, [%r1+40]\nldxdw %r8, [%r1+48]\nldxdw %r9, [%r1+56]\n"
	end := "end:\nmov %r0, 0\nexit\n"
	return map[string]string{
		"branches":         load + branches.String() + end,
		"branches in loop": load + "loop:\n" + branches.String() + "jne %r3, %r4, loop\n" + end,
		"diamonds":         load + diamonds.String() + end,
		"diamonds in loop": load + "loop:\n" + diamonds.String() + "ja32 test\n" + "test:\njeq %r3, %r4, end\nja32 loop\n" + end,
		"spills":           load + spills.String() + end,
		"spills in loop":   load + "loop:\n" + spills.String() + "jne %r2, %r4, loop\n" + end,
		"merges":           load + merges.String() + end,
		"nest":             load + nest.String() + end,
		"stores":           load + "and %r2, 511\n" + stores.String() + end,
		"stores in loop":   load + "and %r2, 511\nloop:\n" + stores.String() + "add %r4, 1\njne %r5, %r4, loop\n" + end,
	}
}

func TestHostileGuardsTakeBoundedTimeAndMemory(t *testing.T) {
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			u := unit(t, text)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := Verify(u)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			mib := (after.TotalAlloc - before.TotalAlloc) >> 20
			t.Logf("%d instructions: %v, %d MiB allocated, %v", len(u.Insns), took, mib, err)
			if took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, s := range samples(b, "testdata/accepted_*.txtar") {
		b.Run(s.name, func(b *testing.B) {
			u := unit(b, s.text)
			for b.Loop() {
				if _, err := Verify(u); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
