package pie_test

import (
	"context"
	"debug/elf"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// boxRoom is how many bytes box.c's segments leave unused, at least, once it is filled.
const boxRoom = 1300

// buildBox builds box.c so that its last pages have room, and returns the command that
// does so again: how long a program is depends on the C library.
func buildBox(t *testing.T, path, compiler string, flags ...string) *exec.Cmd {
	t.Helper()
	for text, data := 0, 0; text < 4096 && data < 4096; {
		args := append([]string{"-O2", fmt.Sprintf("-DFILL_TEXT=%d", text), fmt.Sprintf("-DFILL_DATA=%d", data), "-o", path, "testdata/language/box.c"}, flags...)
		if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s(scripts/setup installs gcc and musl)", compiler, args, err, out)
		}
		switch code, bss := unusedIn(t, path); {
		case code < boxRoom:
			text += 512
		case bss < boxRoom:
			data += 512
		default:
			return exec.Command(compiler, args...)
		}
	}
	t.Fatalf("%s: its segments leave no room, whatever they are filled with", path)
	return nil
}

// unusedIn is what is left of the last pages of a program's code and data.
func unusedIn(t *testing.T, path string) (code, data uint64) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		switch rest := -(p.Vaddr + p.Memsz) % 4096; {
		case p.Type != elf.PT_LOAD:
		case p.Flags&elf.PF_X != 0:
			code = rest
		case p.Flags&elf.PF_W != 0:
			data = rest
		}
	}
	return code, data
}

// boxGuard rejects checks above 100, or what else body says.
func boxGuard(t *testing.T, id, function, body string) *pie.Prepatch {
	t.Helper()
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(fmt.Sprintf(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id %s

//pie:guard exe=box func=%s onfault=pass onfuel=pass
func Check(c *libpie.Call, n %s) libpie.Verdict {
	%s
	return libpie.Pass()
}
`, id, function, map[string]string{"check": "int32", "other": "int64"}[function], body))})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const above100 = "if n > 100 {\n\t\treturn libpie.Reject(int32(-1))\n\t}"

// status1 is the only prepatch in a process.
func status1(t *testing.T, pid int) pie.PrepatchStatus {
	t.Helper()
	all, err := pie.Status(context.Background(), pie.Pids(pid))
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 || len(all[0].Left) > 0 {
		t.Fatalf("%+v, %v; want one prepatch", all, err)
	}
	return all[0].Prepatches[0]
}

// A process that its sandbox ends for any system call but read, write and exit is guarded,
// and unguarded again, without one; and the sandbox is in force all the while.
func TestQuiet(t *testing.T) {
	for _, how := range []struct {
		name, compiler string
		flags          []string
	}{
		{"position independent", "gcc", nil},
		{"at a fixed address", "gcc", []string{"-no-pie"}},
		{"static", "gcc", []string{"-static"}},
		{"static, position independent", "gcc", []string{"-static-pie"}},
		{"musl, static", "musl-gcc", []string{"-static"}},
	} {
		t.Run(how.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "box")
			again := buildBox(t, path, how.compiler, how.flags...)
			p := boxGuard(t, "BOX-1", "check", above100)
			for _, sandbox := range []string{"strict", "filter"} {
				h := runHost(t, path, exec.Command(again.Path, again.Args[1:]...))
				if got := h.ask(t, sandbox, 0); got != 0 {
					t.Fatalf("%s: %d", sandbox, got)
				}
				for range 2 {
					h.quietly(t, p, sandbox)
				}
				h.forbidden(t)
			}
		})
	}
}

// quietly puts p into the host, looks at what it does, and takes it out again.
func (h *host) quietly(t *testing.T, p *pie.Prepatch, sandbox string) {
	t.Helper()
	ctx, pid := context.Background(), h.cmd.Process.Pid
	report, err := pie.Insert(ctx, p, pie.Pids(pid), pie.Options{Mode: pie.ModeEnforce})
	if err != nil || report.Guarded() != 1 || len(report.Processes[0].Notes) == 0 {
		t.Fatalf("%s: %+v, %v", sandbox, report, err)
	}
	if bad, good := h.ask(t, "check", 101), h.ask(t, "check", 7); bad != -1 || good != 7 {
		t.Errorf("%s: guarded, it answers %d and %d", sandbox, bad, good)
	}
	if s := status1(t, pid); !s.NoEvents || s.Guards[0].Calls != 2 || s.Guards[0].Rejects != 1 {
		t.Errorf("%s: %+v", sandbox, s)
	}
	f := pie.NewFollower(pie.Pids(pid))
	if events, err := f.Next(ctx); err != nil || len(events) > 0 || len(f.Silent) != 1 {
		t.Errorf("%s: events %v, %v, silent %v", sandbox, events, err, f.Silent)
	}
	if _, err := pie.SetMode(ctx, p.ID, pie.ModeOff, pie.Pids(pid)); err != nil {
		t.Fatal(err)
	}
	if got := h.ask(t, "check", 101); got != 101 {
		t.Errorf("%s: off, it answers %d", sandbox, got)
	}
	if _, err := pie.Remove(ctx, p.ID, pie.Pids(pid)); err != nil {
		t.Fatal(err)
	}
	if got := h.ask(t, "check", 101); got != 101 {
		t.Errorf("%s: removed, it answers %d", sandbox, got)
	}
	if _, err := pie.CompareText(ctx, pid); err != nil {
		t.Errorf("%s: %v", sandbox, err)
	}
	if all, err := pie.Status(ctx, pie.Pids(pid)); err != nil || len(all) > 0 {
		t.Errorf("%s: removed, and %+v, %v", sandbox, all, err)
	}
}

// forbidden has the host make a call that its sandbox ends it for.
func (h *host) forbidden(t *testing.T) {
	t.Helper()
	fmt.Fprintln(h.in, "forbidden 0")
	ended := make(chan error, 1)
	go func() { ended <- h.cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "signal") {
			t.Errorf("after a forbidden call: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it made a forbidden call, and lives: the sandbox is not in force any more")
	}
}

// A child that is born in the sandbox inherits the guard; what it counts is its own.
func TestQuietChild(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "box")
	h := runHost(t, path, buildBox(t, path, "gcc"))
	pid := h.cmd.Process.Pid
	h.ask(t, "forking", 0)
	p, second := boxGuard(t, "BOX-1", "check", above100), boxGuard(t, "BOX-2", "other", "if n > 5 {\n\t\treturn libpie.Reject(int64(-2))\n\t}")
	if _, err := pie.Insert(ctx, p, pie.Pids(pid), pie.Options{Mode: pie.ModeEnforce}); err != nil {
		t.Fatal(err)
	}
	h.ask(t, "check", 101)
	child := h.ask(t, "fork", 0)
	t.Cleanup(func() { exec.Command("kill", "-9", fmt.Sprint(child)).Run() })
	for range 3 {
		if got := h.ask(t, "check", 102); got != -1 {
			t.Errorf("the child answers %d", got)
		}
	}
	parent, born := status1(t, pid), status1(t, child)
	if parent.Counters == born.Counters || parent.Guards[0].Rejects != 1 || born.Guards[0].Rejects != 4 {
		t.Errorf("the parent counts %+v, the child %+v", parent, born)
	}
	if _, err := pie.Insert(ctx, second, pie.Pids(child), pie.Options{Mode: pie.ModeEnforce}); err != nil {
		t.Fatalf("a second prepatch: %v", err)
	}
	if one, other := h.ask(t, "check", 102), h.ask(t, "other", 6); one != -1 || other != -2 {
		t.Errorf("the child with two answers %d and %d", one, other)
	}
	for _, id := range []string{p.ID, second.ID} {
		if _, err := pie.Remove(ctx, id, pie.Pids(child)); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.ask(t, "check", 102); got != 102 {
		t.Errorf("removed from the child, it answers %d", got)
	}
	if _, err := pie.CompareText(ctx, child); err != nil {
		t.Error(err)
	}
	if s := status1(t, pid); s.Guards[0].Rejects != 1 || s.State != "in" {
		t.Errorf("of the parent: %+v", s)
	}
}

// What takes a clock, memory or a system call is refused there, and says why.
func TestQuietRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box")
	again := buildBox(t, path, "gcc")
	for _, sandbox := range []string{"strict", "filter"} {
		h := runHost(t, path, exec.Command(again.Path, again.Args[1:]...))
		h.ask(t, sandbox, 0)
		for _, c := range []struct {
			name, body string
			trial      time.Duration
			says       string
			reason     pie.Code // in strict mode
		}{
			{"a trial", above100, time.Minute, "trial", pie.CodeNoTrial},
			{"memory", "if c.Bytes(libpie.Addr(n), 4).Count('*') > 3 {\n\t\treturn libpie.Reject(int32(-1))\n\t}", 0, "reads memory", pie.CodeSeccomp},
			{"the time", "if c.Now() > 7 && n > 100 {\n\t\treturn libpie.Reject(int32(-1))\n\t}", 0, "the time", "guard_place"},
		} {
			_, err := pie.Insert(context.Background(), boxGuard(t, "BOX-1", "check", c.body), pie.Pids(h.cmd.Process.Pid), pie.Options{Mode: pie.ModeEnforce, Trial: c.trial})
			reason := c.reason
			if sandbox == "filter" && c.trial == 0 {
				reason = pie.CodeNoSyscall
			}
			if r, ok := err.(*pie.Refusal); !ok || r.Code != reason || !strings.Contains(r.Msg+strings.Join(r.Details, "\n"), c.says) || r.Instead == "" {
				t.Errorf("%s, %s: %+v", sandbox, c.name, err)
			}
			if got := h.ask(t, "check", 101); got != 101 {
				t.Errorf("%s, %s: refused, it answers %d", sandbox, c.name, got)
			}
			if _, err := pie.CompareText(context.Background(), h.cmd.Process.Pid); err != nil {
				t.Error(err)
			}
		}
		h.forbidden(t)
	}
}
