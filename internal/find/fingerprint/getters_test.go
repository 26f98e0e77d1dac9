package fingerprint

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// getters is a program of functions that differ in one offset only. Where the structure has
// grown in front, each has the offset that the next had.
const getters = `
#include <stdio.h>
struct s { GREW char a[32], b[32], c[32], d[32], e[32]; };
#define GET(n) __attribute__((noinline)) int get_##n(struct s *s, char *out) { \
	int i, k = 0; for (i = 0; i < 32 && s->n[i]; i++) { out[k++] = s->n[i] ^ (i * TIMES); if (k == 30) puts("full"); } \
	out[k] = 0; return k; }
GET(a) GET(c) GET(d) GET(e)
#ifndef GONE
GET(b)
#else
#define get_b get_a
#endif
int main(int n, char **v) { struct s s = {0}; char o[33]; s.c[0] = n;
	return get_a(&s, o) + get_b(&s, o) + get_c(&s, o) + get_d(&s, o) + get_e(&s, o) + (v != 0); }
`

func TestGettersThatMovedInStep(t *testing.T) {
	built := func(flags ...string) *program {
		source := filepath.Join(t.TempDir(), "getters.c")
		if err := os.WriteFile(source, []byte(getters), 0o600); err != nil {
			t.Fatal(err)
		}
		return compiled(t, source, append([]string{"-O2", "-fno-ipa-icf", "-Wno-unused"}, flags...)...)
	}
	ref := built("-DGREW=", "-DTIMES=7")
	fp := create(t, "get_b", ref.build("get_b", false))
	if r := &fp.References[0]; !r.Target.hasOperationsOf(&r.Alike[0]) {
		t.Errorf("a getter of another field has not the operations of the target: %d and %d instructions", r.Target.Insns, r.Alike[0].Insns)
	}
	for _, flags := range [][]string{
		{"-DGREW=char z[32];", "-DTIMES=7", "-DGONE"},
		{"-DGREW=char z[32];", "-DTIMES=9", "-DGONE"},
		{"-DGREW=char z[40];", "-DTIMES=7", "-DGONE"},
		{"-DGREW=char z[16];", "-DTIMES=7"},
		{"-DGREW=char z[32];", "-DTIMES=9"},
	} {
		p := built(flags...)
		f := p.Find(fp)
		if right := p.names["get_b"]; f.Tier == Auto && f.At != right {
			t.Errorf("%s: AUTO at %v, want %v or nothing sure: %v", flags, f.At, right, f.Evidence)
		}
		if f := p.Search(fp).Without([]address.Vaddr{p.names["get_b"]}); f.Tier == Auto {
			t.Errorf("%s: taken out, and AUTO at %v: %v", flags, f.At, f.Evidence)
		}
	}
}
