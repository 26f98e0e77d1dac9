package locate

import (
	"os/exec"
	"testing"
)

// BenchmarkFind is what an insertion waits for: the images of a process and
// strdup in its C library, from nothing.
func BenchmarkFind(b *testing.B) {
	p := start(b, exec.Command(gcc(b, "victim", "-O2", "testdata/victim.c")))
	for b.Loop() {
		set, err := Images(p)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := set.Find(Query{Lib: "libc.so.6", Func: "strdup"}); err != nil {
			b.Fatal(err)
		}
		set.Close()
	}
}
