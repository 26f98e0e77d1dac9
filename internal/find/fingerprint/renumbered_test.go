package fingerprint

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// siblings is a program of two functions that differ in a number only in its second version;
// in the first, add_ptr has other code. Both call the same.
const siblings = `
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <string.h>
struct type { unsigned name, info, ref; };
struct all { struct type *t; size_t n, room; int fixed; char *names; };
__attribute__((noinline)) static int writable(struct all *a) {
	if (a->fixed) { fprintf(stderr, "the types of %s cannot be changed\n", a->names); return -EROFS; }
	char *c = strdup(a->names); if (!c) return -ENOMEM;
	free(a->names); a->names = c; return 0; }
__attribute__((noinline)) static struct type *room_for(struct all *a, size_t more) {
	if (a->n + more > a->room) {
		a->room = a->room * 2 + 16; a->t = realloc(a->t, a->room * sizeof *a->t);
		if (!a->t) { perror("no room for types"); return 0; } }
	return a->t + a->n; }
__attribute__((noinline)) static int commit(struct all *a, size_t more) {
	a->n += more; if (a->n % 100 == 0) printf("now %zu types\n", a->n);
	return (int)a->n; }
#define ADD(kind, NAME) __attribute__((noinline)) int NAME(struct all *a, int ref) { \
	if (ref < 0) return errno = EINVAL, -EINVAL; \
	int err = writable(a); if (err) return err; \
	struct type *t = room_for(a, 1); if (!t) return errno = ENOMEM, -ENOMEM; \
	*(volatile unsigned long *)t = (unsigned long)(kind) << 56 | 0x11; t->ref = (unsigned)ref + 77; \
	if (a->n > 1000 && ref > 3) errno = E2BIG; \
	return commit(a, 1); }
ADD(13, add_proto)
#ifdef SECOND
ADD(2, add_ptr)
#else
__attribute__((noinline)) int add_ptr(struct all *a, int ref) { return a->fixed ? -1 : commit(a, (size_t)ref); }
#endif
#define FILLER(n) __attribute__((noinline)) int filler_##n(int x, char *s) { int k = 0; for (; *s; s++) { \
	k = k * (n + 3) + *s; if (k == x * n) putchar(n + k); if (k > x + n) k -= (int)strlen(s) * n; } return k; }
FILLER(1) FILLER(2) FILLER(5) FILLER(7) FILLER(9) FILLER(12) FILLER(15) FILLER(19) FILLER(23) FILLER(29)
FILLER(31) FILLER(37) FILLER(41) FILLER(43) FILLER(47) FILLER(53) FILLER(59) FILLER(61) FILLER(67) FILLER(71)
int main(int n, char **v) { struct all a = {.names = strdup(v[0])};
	int k = add_proto(&a, n) + add_ptr(&a, n + 1);
#define CALL(i) k += filler_##i(n, v[0]);
	CALL(1) CALL(2) CALL(5) CALL(7) CALL(9) CALL(12) CALL(15) CALL(19) CALL(23) CALL(29)
	CALL(31) CALL(37) CALL(41) CALL(43) CALL(47) CALL(53) CALL(59) CALL(61) CALL(67) CALL(71)
	return k; }
`

// A sibling that came to the target's code, callers and callees differs in a number.
func TestSiblingWithAnotherNumber(t *testing.T) {
	source := filepath.Join(t.TempDir(), "siblings.c")
	if err := os.WriteFile(source, []byte(siblings), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := compiled(t, source, "-O2")
	fp := create(t, "add_proto", ref.build("add_proto", false))
	p := compiled(t, source, "-O2", "-DSECOND")
	s := p.Search(fp)
	f := s.Without([]address.Vaddr{p.at("add_proto")})
	if f.At != p.at("add_ptr") || f.Tier != Confirm {
		t.Errorf("taken out: %v at %v, want CONFIRM of the sibling at %v: J %.2f score %.1f margin %.1f %v %v", f.Tier, f.At, p.at("add_ptr"), f.Similarity, f.Score, f.Margin, f.Evidence, f.Why)
	}
	if f := s.Find(); f.At != p.at("add_proto") {
		t.Errorf("there: %v at %v, want %v", f.Tier, f.At, p.at("add_proto"))
	}
}
