package hosts

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// A service that systemd has confined: memory can become executable in no way, and calls
// that insertion makes answer EPERM. It is guarded, and every thread finds its filter in
// force all the while.
func TestConfinedService(t *testing.T) {
	path := build(t, "service", "gcc", "-pthread", "service.c", "guarded.c")
	h := start(t, nil, path, "3")
	h.waitStatus("Seccomp:\t2")
	h.cycles(guard(t, "HOST-1", exeOf(path)), 3)
}

// A pie that is killed at any moment leaves such a service as it was: no thread is left without
// its filter, none dies of it, and the next pie guards it.
func TestConfinedServiceKilled(t *testing.T) {
	kills := 6
	if os.Getenv("PIE_TEST_LONG") != "" {
		kills = 1000
	}
	path := build(t, "service", "gcc", "-pthread", "service.c", "guarded.c")
	h := start(t, nil, path, "3")
	for range kills {
		by := h.startCycler(exeOf(path)) // which repairs first
		if _, err := by.in.Write([]byte("\n\n\n")); err != nil {
			t.Fatal(err)
		}
		for range rand.IntN(3) {
			if _, err := by.out.ReadString('\n'); err != nil {
				break
			}
		}
		time.Sleep(rand.N(60 * time.Millisecond))
		_ = by.cmd.Process.Kill()
		_ = by.cmd.Wait()
		h.calls(perHalf)
		if all := h.threads("Seccomp:\t2"); len(all) != 3 {
			t.Fatalf("%d threads have a filter", len(all))
		}
	}
	if by := h.startCycler(exeOf(path)); !by.once(t) {
		t.Error("the last one was ended by its watchdog")
	}
	h.unguarded()
	h.asItsFiles()
}

// Where all within reach below the program is taken, PIE's memory lies above it.
func TestArenaAbove(t *testing.T) {
	path := build(t, "crowded", "gcc", "-pie", "-fPIE", "crowded.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	h := start(t, nil, path)
	h.cycles(p, 2)
	h.insert(p)
	a, ok := findArena(t, h.pid())
	site := h.site()
	if !ok || a.state[0] < site || a.state[0]-site > 2<<30 {
		t.Errorf("the arena's state is at %#x, the site at %#x", a.state[0], site)
	}
	h.guarded()
	h.remove(p.ID)
	h.asItsFiles()
}

// Threads that are in the guarded function, and stay there, when a guard comes, and others
// when it goes: they return what they must.
func TestThreadsInside(t *testing.T) {
	path := build(t, "inside", "gcc", "-pthread", "inside.c")
	p := guard(t, "HOST-1", exeOf(path))
	h := start(t, nil, path, "2")
	for i := range 6 {
		h.insert(p)
		if i%2 == 0 {
			h.tell("leave") // out of the unguarded function, into the guarded one
		}
		h.guarded()
		h.remove(p.ID)
		h.unguarded()
		h.asItsFiles()
		h.tell("leave")
	}
}

// A program that replaces itself by itself all the time: each insertion guards it or says
// that it has gone or is stale, and none harms it or what it becomes.
func TestExecMeanwhile(t *testing.T) {
	tries := 16
	if os.Getenv("PIE_TEST_LONG") != "" {
		tries = 2000
	}
	path := build(t, "execs", "gcc", "-pthread", "-static", "-no-pie", "execs.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	h := start(t, nil, path)
	said := map[string]int{}
	for range tries {
		_, err := pie.Insert(h.context(), p, pie.Pids(h.pid()), pie.Options{Mode: pie.ModeEnforce, Build: "test"})
		said["insert "+outcome(err)]++
		_, err = pie.Remove(h.context(), p.ID, pie.Pids(h.pid()))
		said["remove "+outcome(err)]++
	}
	first := h.anew()
	time.Sleep(300 * time.Millisecond)
	if now := h.anew(); now.Wrong != 0 || now.Calls <= first.Calls {
		t.Errorf("%+v, then %+v", first, now)
	}
	if said["insert done"] == 0 {
		t.Error("it was never guarded")
	}
	t.Log(said)
}

// anew reads the stats of a program that has replaced itself.
func (h *host) anew() (s stats) {
	h.t.Helper()
	b := make([]byte, 32)
	for begin := time.Now(); time.Since(begin) < patient; time.Sleep(time.Millisecond) {
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", h.pid()))
		if err != nil {
			h.t.Fatal(err)
		}
		n, _ := mem.ReadAt(b, h.stats)
		mem.Close()
		if _, _ = binary.Decode(b, binary.LittleEndian, &s); n == len(b) && s.Calls > 0 {
			return s
		}
	}
	h.t.Fatalf("%v has ended", h.cmd.Args)
	return s
}

// Unwinders in the process itself, from a signal that comes anywhere, in a guard as well:
// they never crash, no call is wrong, and how often they meet the caller is told.
func TestUnwinders(t *testing.T) {
	path := build(t, "unwinder", "gcc", "-pthread", "unwinder.c", "guarded.c", "-lunwind")
	for _, by := range []string{"libunwind", "backtrace"} {
		t.Run(by, func(t *testing.T) {
			p := guard(t, "HOST-1", exeOf(path))
			h := start(t, nil, path, by)
			h.cycles(p, 2)
			before := h.unwound()
			if before.met-before.oursMet < (before.all-before.ours)*3/4 { // the rest came in main
				t.Errorf("the caller is not met from the program's own code: %+v", before)
			}
			h.insert(p)
			var u unwound
			for begin := time.Now(); (u.ours == 0 || u.ours < 200 && time.Since(begin) < 5*time.Second) && time.Since(begin) < patient; {
				u = h.unwound()
			}
			if u.ours == 0 {
				t.Errorf("none came in a guard: %+v", u)
			}
			h.guarded()
			h.remove(p.ID)
			h.unguarded()
			h.asItsFiles()
			t.Logf("before %+v, then %+v", before, u)
		})
	}
}

// unwound is how often a stack was unwound and the caller met, and how often of that
// from a guard.
type unwound struct{ all, met, ours, oursMet uint64 }

func (h *host) unwound() (u unwound) {
	h.t.Helper()
	if _, err := io.WriteString(h.in, "\n"); err != nil {
		h.t.Fatal(err)
	}
	select {
	case line := <-h.lines:
		if _, err := fmt.Sscan(line, &u.all, &u.met, &u.ours, &u.oursMet); err != nil {
			h.t.Fatalf("%q: %v", line, err)
		}
	case <-time.After(patient):
		h.t.Fatalf("%v does not answer", h.cmd.Args)
	}
	return u
}

// Another program, that has the function elsewhere, is mounted over the path of one that
// runs: what is guarded is what runs, not what its path leads to now.
func TestMountedOver(t *testing.T) {
	path := build(t, "covered", "gcc", "-pthread", "plain.c", "guarded.c")
	decoy := build(t, "decoy", "gcc", "-O0", "-pthread", "births.c", "careful.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	h := start(t, nil, path, "", "2")
	if err := unix.Mount(decoy, path, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mounting over %s: %v (the tests run as root)", path, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	h.cycles(p, 2)
}
