package locate

import (
	"os/exec"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Variables, errno and an IFUNC are found where the program says they are.
func TestSymbolsOfAProgram(t *testing.T) {
	for _, build := range []struct {
		name string
		args []string
	}{
		{"pie", []string{"-O2", "-pie", "-fPIE"}},
		{"no-pie", []string{"-O2", "-no-pie", "-fno-pie"}},
		{"bind-now", []string{"-O2", "-Wl,-z,now"}},
		{"lazy", []string{"-O2", "-Wl,-z,lazy"}},
	} {
		t.Run(build.name, func(t *testing.T) {
			p := start(t, exec.Command(gcc(t, "victim", append(build.args, "testdata/victim.c")...)))
			set, err := Images(p)
			if err != nil {
				t.Fatal(err)
			}
			defer set.Close()
			libc := set.Images[1]
			for _, s := range []struct {
				name string
				in   *Image
				kind bpf.SymbolKind
			}{
				{"counter", set.Exe(), bpf.SymbolData},
				{"counter", libc, bpf.SymbolData},
				{"stdout", libc, bpf.SymbolData},
				{"stdout", set.Exe(), bpf.SymbolData},
				{"environ", libc, bpf.SymbolData},
				{"hidden", set.Exe(), bpf.SymbolFunc},
				{"strdup", set.Exe(), bpf.SymbolFunc},
				{"memcpy", set.Exe(), bpf.SymbolFunc},
			} {
				a, err := set.Symbol(s.in, bpf.Symbol{Name: s.name, Kind: s.kind})
				if err != nil || a != p.addrs[s.name] {
					t.Errorf("%s from %s: %v, %v; want %v", s.name, s.in.Name(), a, err, p.addrs[s.name])
				}
			}
			off, err := set.Errno()
			if fs := p.addrs["fs"]; err != nil || fs.Add(int64(off)) != p.addrs["errno"] {
				t.Errorf("errno at fs%+d, %v; want %v, fs is %v", off, err, p.addrs["errno"], fs)
			}
		})
	}
}
