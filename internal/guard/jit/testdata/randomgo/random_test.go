package random

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"github.com/patch-integration-engine/pie/libpie"
	"github.com/patch-integration-engine/pie/libpie/libpietest"
)

// variable is what every word of a variable of the target holds.
var variable uint64

// Test runs the guards one after the other, each on every line of the file calls: the
// time, then the argument words behind the address. It writes how each call ended.
func Test(t *testing.T) {
	content, err := os.ReadFile("content")
	if err != nil {
		t.Fatal(err)
	}
	var env struct{ tid, ret, stack, seed uint64 }
	read(t, "environment", func(line string) {
		fmt.Sscan(line, &env.tid, &env.ret, &env.stack, &env.seed, &variable)
	})
	p := libpietest.New(t)
	p.SetTid(int32(env.tid))
	p.SetReturnAddr(libpie.Addr(env.ret))
	p.SetStackUsed(int(env.stack))
	p.SetSeed(env.seed)
	p.SetGlobal("g", libpietest.Place(p, variable))
	p.SetFunction("near", libpie.Addr(env.ret)-8, libpie.Addr(env.ret))
	p.SetInvoke("fn", called)
	out, err := os.Create("results")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	at := p.Bytes(content)
	for _, g := range guards {
		read(t, "calls", func(line string) {
			w, now := []uint64{uint64(at), 0, 0, 0, 0, 0}, int64(0)
			fmt.Sscan(line, &now, &w[1], &w[2], &w[3], &w[4], &w[5])
			p.SetNow(now)
			r := p.RunWords(g, w...)
			fmt.Fprintf(out, "%s memory %x\n", ended(r, w), p.Memory(at, len(content)))
		})
	}
}

func read(t *testing.T, name string, each func(line string)) {
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for s := bufio.NewScanner(in); s.Scan(); {
		each(s.Text())
	}
}

// called does what the function of the test process does.
func called(args []uint64) libpie.Returned {
	sum := uint64(8)
	for i, a := range args {
		sum += uint64(i+1) * a
	}
	return libpie.Returned{Word: sum, Double: sum, Errno: 77}
}

// ended says how a call ended; words are its arguments.
func ended(r libpietest.Result, words []uint64) string {
	if r.Faulted || r.OutOfFuel {
		return "fault"
	}
	s := fmt.Sprintf("verdict %d", r.Kind)
	for _, w := range r.Words {
		if w.Var != "" {
			s += fmt.Sprintf(" %d %d", variable, variable)
		} else {
			s += fmt.Sprintf(" %d", w.Word)
		}
	}
	if r.HasFloat {
		s += fmt.Sprintf(" float %d", r.Float)
	}
	if r.HasErrno {
		s += fmt.Sprintf(" errno %d", r.Errno)
	}
	if r.Kind == libpie.Rejected || r.Kind == libpie.Logged {
		s += fmt.Sprintf(" code %d", r.Code)
	}
	if r.Kind == libpie.Rewritten {
		for i := 1; i < len(words); i++ {
			if w, changed := r.Args[i]; changed {
				words[i] = w
			}
			s += fmt.Sprintf(" %d", words[i])
		}
	}
	return s
}
