package hosts

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// How the program was built.
func TestBuilds(t *testing.T) {
	for _, b := range []struct{ name, compiler, flags string }{
		{"pie", "gcc", "-pie -fPIE"},
		{"nopie", "gcc", "-no-pie"},
		{"static", "gcc", "-static"},
		{"staticpie", "gcc", "-static-pie"},
		{"cet", "gcc", "-fcf-protection=full"},
		{"asan", "gcc", "-fsanitize=address"},
		{"profiled", "gcc", "-pg"},
		{"fentry", "gcc", "-pg -mfentry"},
		{"splitstack", "gcc", "-fsplit-stack"},
		{"retpoline", "gcc", "-mindirect-branch=thunk -mfunction-return=thunk"},
		{"patchable", "gcc", "-fpatchable-function-entry=8,2"},
		{"musl", "musl-gcc", "-static"},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			path := build(t, b.name, b.compiler, append(strings.Fields(b.flags), "-pthread", "plain.c", "guarded.c")...)
			start(t, nil, path, "plain", "3").cycles(guard(t, "HOST-1", exeOf(path)), 2)
		})
	}
	t.Run("control-flow integrity", func(t *testing.T) {
		t.Parallel()
		path := build(t, "tabled", "clang-14", "-flto", "-fsanitize=cfi-icall", "-fvisibility=hidden", "-fuse-ld=lld", "-pthread", "tabled.c", "guarded.c")
		start(t, nil, path, "3").cycles(guard(t, "HOST-1", exeOf(path)), 2)
	})
	t.Run("C++", func(t *testing.T) {
		t.Parallel()
		path := build(t, "cxx", "g++", "-pthread", "cxx.cc")
		start(t, nil, path, "", "3").cycles(guard(t, "HOST-1", exeOf(path)), 3)
	})
}

// A function that keeps registers which the psABI lets it change, for callers that know.
// A guard keeps them as well, whatever its verdict, however its reads survive bad addresses.
func TestHandmadeCallee(t *testing.T) {
	for name, flags := range map[string][]string{"handmade": nil, "pushes": {"-DPUSHES"}} {
		t.Run(name, func(t *testing.T) {
			path := build(t, name, "gcc", append(flags, "handmade.c")...)
			p := guard(t, "HOST-1", exeOf(path))
			h := start(t, nil, path)
			h.cycles(p, 2)
			h.insertWith(p, pie.Options{CopyReads: true})
			h.guarded()
			h.remove(p.ID)
			h.unguarded()
		})
	}
}

// What the function runs on, and what its caller does with threads and processes.
func TestStacksAndBirths(t *testing.T) {
	for _, c := range []struct{ program, what string }{
		{"stacks", "coroutine"}, {"stacks", "altstack"}, {"births", "threads"}, {"births", "processes"}, {"births", "sandboxes"},
	} {
		t.Run(names(c.program, c.what), func(t *testing.T) {
			path := build(t, c.program, "gcc", "-pthread", c.program+".c", "careful.c", "guarded.c")
			start(t, nil, path, c.what).cycles(guard(t, "HOST-1", exeOf(path)), 3)
		})
	}
}

// What the program forbids itself, or has given up.
func TestSituations(t *testing.T) {
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	for _, what := range []string{"nondumpable", "mdwe", "setuid", "roomy"} {
		t.Run(what, func(t *testing.T) {
			start(t, nil, path, what, "3").cycles(p, 2)
		})
	}
	quiet := guardNumbers(t, "HOST-2", exeOf(path))
	t.Run("strict", func(t *testing.T) {
		h := start(t, nil, path, "strict", "3")
		h.waitStatus("Seccomp:\t1")
		h.refused(p, pie.CodeSeccomp)
		h.quietCycles(quiet)
	})
	t.Run("a strict thread", func(t *testing.T) {
		h := start(t, nil, path, "strictthread", "3")
		for len(h.threads("Seccomp:\t1")) == 0 {
			time.Sleep(time.Millisecond)
		}
		h.refused(p, pie.CodeSeccomp)
	})
	t.Run("a filter that kills", func(t *testing.T) {
		h := start(t, nil, path, "killall", "3")
		h.waitStatus("Seccomp:\t2")
		h.refused(p, pie.CodeNoSyscall)
		h.quietCycles(quiet)
	})
	t.Run("without main thread", func(t *testing.T) {
		h := start(t, nil, path, "mainless", "3")
		h.waitStatus("State:\tZ")
		h.cycles(p, 2)
		h.insertWith(p, pie.Options{CopyReads: true})
		h.guarded()
		h.remove(p.ID)
		h.unguarded()
	})
	t.Run("main thread ends while guarded", func(t *testing.T) {
		h := start(t, nil, path, "mainless", "3")
		h.insertWith(p, pie.Options{CopyReads: true})
		h.waitStatus("State:\tZ")
		h.guarded()
		h.remove(p.ID)
		h.unguarded()
		h.asItsFiles()
	})
	t.Run("tight", func(t *testing.T) {
		start(t, nil, path, "tight", "3").refused(p, pie.CodeHeadroom)
	})
	t.Run("namespaces", func(t *testing.T) {
		attr := &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1}},
		}
		start(t, attr, path, "", "3").cycles(p, 2)
	})
}

// Libraries opened before and after, and two versions of one.
func TestLibraries(t *testing.T) {
	host := build(t, "library", "gcc", "library.c", "-ldl")
	first := build(t, "libfirst.so", "gcc", "-shared", "-fPIC", "-Wl,-soname,libfirst.so", "guarded.c")
	other := build(t, "libother.so", "gcc", "-shared", "-fPIC", "-Wl,-soname,libfirst.so", "-DPLUS=2", "guarded.c")
	p := guard(t, "HOST-1", "lib=libfirst.so")
	h := start(t, nil, host, first)
	h.cycles(p, 2)
	h = start(t, nil, host, first, other)
	h.insert(p)
	h.settles("guarded", func(s stats) bool { return s.Rejected > 0 })
	if _, err := h.in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	h.waitReady()
	h.calls(perHalf)
	h.remove(p.ID)
	h.asItsFiles()
	h.cycles(p, 2)
}

// A server that unloads its modules and loads them again, as at a graceful restart: the
// guard in front of a library's function goes with it, which is told as what it is, not as
// something that a killed pie left. Inserted again the prepatch is in as before, with its
// guard of another library that stayed. A library that does not come back changes nothing.
func TestLibraryLoadedAnew(t *testing.T) {
	host := build(t, "reload", "gcc", "reload.c", "-ldl")
	library := build(t, "libmodule.so", "gcc", "-shared", "-fPIC", "-Wl,-soname,libmodule.so", "guarded.c")
	alone, both := guard(t, "HOST-1", "lib=libmodule.so"), guardBeside(t, "HOST-2", "lib=libmodule.so")
	h := start(t, nil, host, library)
	for _, p := range []*pie.Prepatch{alone, both} {
		for _, order := range []string{"again", "elsewhere"} {
			h.insert(p)
			h.guarded()
			h.tell(order)
			h.unguarded()
			h.lost(p.ID)
			h.insert(p)
			h.guarded()
			h.tell(order)
			h.remove(p.ID)
			h.asItsFiles()
		}
	}
	h.insert(both)
	h.tell("close")
	h.lost(both.ID)
	_, err := pie.Insert(h.context(), both, pie.Pids(h.pid()), pie.Options{Mode: pie.ModeEnforce, Build: "test"})
	if pie.ReasonOf(err) != pie.CodeNoImage {
		t.Errorf("inserted while its library is not there: %v", err)
	}
	h.lost(both.ID)
	h.remove(both.ID)
	h.asItsFiles()
}

// lost wants the guards in libmodule.so told as gone with their library, any other in
// place, and nothing for a repair to do.
func (h *host) lost(id string) {
	h.t.Helper()
	all, err := pie.Status(h.context(), pie.Pids(h.pid()))
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 || len(all[0].Left) > 0 {
		h.t.Fatalf("%v: %+v, %v", h.cmd.Args, all, err)
	}
	p := all[0].Prepatches[0]
	if p.ID != id || p.State != "lost" {
		h.t.Errorf("%+v", p)
	}
	for _, g := range p.Guards {
		if lost := g.Image == "libmodule.so"; g.Lost != lost || g.Intact == lost {
			h.t.Errorf("%+v", g)
		}
	}
}

// guardBeside is a prepatch of guard, and of a second one in front of a function that the
// host does not call, in a library that stays.
func guardBeside(t testing.TB, id, where string) *pie.Prepatch {
	t.Helper()
	source := append(guardSource(id, where), `
//pie:guard lib=libc.so.6 func=usleep onfault=pass onfuel=pass
func Beside(_ *libpie.Call, usec uint32) libpie.Verdict {
	if usec == 1<<31 {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`...)
	p, err := pie.Load(map[string][]byte{"guard.go": source})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Under valgrind a translation of the code runs, not the code that is mapped: a guard in it
// would never be called, and is refused, by name.
func TestTranslatedCode(t *testing.T) {
	path := build(t, "pie", "gcc", append(strings.Fields("-pie -fPIE"), "-pthread", "plain.c", "guarded.c")...)
	// Whom valgrind runs is known by the library that it preloads; this one is of that name only.
	preloaded := build(t, "vgpreload_core-amd64-linux.so", "gcc", "-shared", "-fPIC", "careful.c")
	h := start(t, nil, "env", "LD_PRELOAD="+preloaded, path, "plain", "1")
	r, err := pie.Insert(h.context(), guard(t, "HOST-1", "lib=libc.so.6"), pie.Pids(h.pid()), pie.Options{Mode: pie.ModeEnforce, Build: "test"})
	if pie.ReasonOf(err) != pie.CodeTranslated || !strings.Contains(err.Error(), "valgrind") {
		t.Errorf("inserting: %+v, %v", r, err)
	}
	d, err := pie.Doctor(h.context(), h.pid())
	if err != nil || !slices.ContainsFunc(d.Findings, func(f pie.Finding) bool { return f.Code == pie.CodeTranslated }) {
		t.Errorf("doctor: %+v, %v", d, err)
	}
}
