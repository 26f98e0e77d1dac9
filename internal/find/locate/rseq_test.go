package locate

import (
	"os"
	"os/exec"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Where threads have their struct rseq is what the program itself finds; nothing is said of a
// program for which none is registered, and of one whose C library does not say.
func TestRseq(t *testing.T) {
	for _, x := range []struct {
		name, env string
		args      []string
		known     bool
	}{
		{"glibc", "", []string{"testdata/victim.c"}, true},
		{"glibc, switched off", "GLIBC_TUNABLES=glibc.pthread.rseq=0", []string{"testdata/victim.c"}, false},
		{"glibc, static", "", []string{"-static", "testdata/static.c"}, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			cmd := exec.Command(gcc(t, "victim", append([]string{"-O2"}, x.args...)...))
			cmd.Env = append(os.Environ(), x.env)
			p, set := images(t, cmd)
			off, ok := set.Rseq()
			if ok != x.known {
				t.Fatalf("known: %v, at fs%+d", ok, off)
			}
			at := address.Addr(0)
			if ok {
				at = p.addrs["fs"].Add(int64(off))
			}
			if at != p.addrs["rseq"] {
				t.Errorf("at fs%+d, %v; want %v", off, at, p.addrs["rseq"])
			}
		})
	}
	p := start(t, exec.Command(goBuild(t)))
	set, err := Images(p)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if off, ok := set.Rseq(); ok {
		t.Errorf("a program without a dynamic linker: fs%+d", off)
	}
}
