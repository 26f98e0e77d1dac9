package locate

import (
	"os/exec"
	"testing"
)

func TestFindInLiveProcess(t *testing.T) {
	for _, build := range []struct {
		name string
		args []string
	}{
		{"pie", []string{"-O2", "-pie", "-fPIE"}},
		{"no-pie", []string{"-O2", "-no-pie", "-fno-pie"}},
		{"O0", []string{"-O0"}},
	} {
		t.Run(build.name, func(t *testing.T) {
			exe := gcc(t, "victim", append(build.args, "testdata/victim.c")...)
			p := start(t, exec.Command(exe))
			for _, q := range []Query{
				{Func: "hidden"},
				{Exe: "victim", Func: "shown"},
				{Exe: exe, Func: "victim.c:hidden"},
				{Lib: "libc.so.6", Func: "strdup"},
				{Exe: "victim", Lib: "libc.so.6", Func: "strdup@GLIBC_2.2.5"},
				{Func: "strdup"},
			} {
				found, err := Find(p, q)
				if err != nil {
					t.Errorf("%+v: %v", q, err)
					continue
				}
				f := found[0]
				n := parseName(q.Func)
				if len(found) != 1 || f.Entry != p.addrs[n.base] {
					t.Errorf("%+v: %v, want %v", q, f.Entry, p.addrs[n.base])
				}
				inMemory(t, p, f)
			}
		})
	}
}
