package fingerprint

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// wrapped is a program whose last_node does next to nothing but call first_node, which one
// build inlines there.
const wrapped = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct node { char *text; unsigned n, line; double cost; short kind, stat; struct node *next; };
struct list { struct node *first; unsigned n; int room; const char *mark; };
static __attribute__((always_inline)) inline struct node *fresh(struct list *l) {
	if (l->room <= 0) { fprintf(stderr, "no room for a node after %u\n", l->n); return 0; }
	struct node *n = calloc(1, sizeof *n); if (!n) abort();
	n->text = strdup("BEGIN/END"); n->n = l->n++; n->line = 4711; n->cost = 0.75 * l->room; n->stat = 0x102;
	n->next = l->first; l->first = n; l->room -= 3; if (l->n % 17 == 0) puts(l->mark);
	return n; }
__attribute__((noinline)) struct node *first_node(struct list *l) { return fresh(l); }
__attribute__((noinline)) struct node *last_node(struct list *l) {
#ifdef INLINED
	struct node *n = fresh(l);
#else
	struct node *n = first_node(l);
#endif
	n->kind = 3; return n; }
__attribute__((noinline)) static int walk(struct list *l) { int k = 0;
	for (struct node *n = l->first; n; n = n->next) { k = k * 31 + (int)n->n + n->kind; if (n->stat != 0x102) printf("bad node %u\n", n->n); }
	return k; }
__attribute__((noinline)) static int tokens(struct list *l, char *s) { int k = 0;
	for (; *s; s++) if (*s == ' ') { struct node *n = first_node(l); if (!n) return -1; n->cost += k++; printf("token %d at %s\n", k, s); }
	last_node(l); return k; }
int main(int n, char **v) { struct list l = {.room = n * 100, .mark = v[0]}; return tokens(&l, v[0]) + walk(&l) + (last_node(&l) != 0); }
`

// A small caller of the target, with the target inlined, is not taken for it.
func TestSmallCallerWithTheTargetInlined(t *testing.T) {
	source := filepath.Join(t.TempDir(), "wrapped.c")
	if err := os.WriteFile(source, []byte(wrapped), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := compiled(t, source, "-O2", "-fno-ipa-icf")
	fp := create(t, "first_node", ref.build("first_node", false))
	p := compiled(t, source, "-O2", "-fno-ipa-icf", "-DINLINED")
	f := p.Search(fp).Without([]address.Vaddr{p.at("first_node")})
	if f.Tier == Auto || f.Tier != None && f.At != p.at("last_node") {
		t.Errorf("taken out: %v at %v, the caller with it inlined is at %v: J %.2f score %.1f margin %.1f %v", f.Tier, f.At, p.at("last_node"), f.Similarity, f.Score, f.Margin, f.Evidence)
	}
}
