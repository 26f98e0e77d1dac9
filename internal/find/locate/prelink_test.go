package locate

import (
	"os/exec"
	"testing"
)

// A prelinked library has addresses of its own in the file: it is loaded there, or
// elsewhere where a second copy is, and is found in both places.
func TestPrelinkedLibrary(t *testing.T) {
	for _, base := range []string{"0x3e00000000", "0x10000"} { // the second is never free for it
		lib := gcc(t, "libanswers.so.1", "-O2", "-shared", "-fPIC", "-Wl,-Ttext-segment="+base, "-Wl,-soname,libanswers.so.1",
			"-Wl,--version-script=testdata/answers.map", "testdata/answers.c")
		p := start(t, exec.Command(gcc(t, "loader", "testdata/loader.c"), lib, "twice"))
		found, err := Find(p, Query{Lib: "libanswers.so.1", Func: "answer"})
		if err != nil || len(found) != 2 {
			t.Fatalf("linked at %s: %+v, %v; want two places", base, found, err)
		}
		for i, f := range found {
			if f.Entry != p.addrs["answer"] && f.Entry != p.addrs["second_answer"] || i > 0 && f.Entry == found[0].Entry {
				t.Errorf("linked at %s: at %v, want %v and %v", base, f.Entry, p.addrs["answer"], p.addrs["second_answer"])
			}
			inMemory(t, p, f)
		}
	}
}
