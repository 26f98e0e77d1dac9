package agent

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// say sends a line and returns the answer.
func (s *server) say(line string) string {
	fmt.Fprintln(s.in, line)
	answer, err := s.out.ReadString('\n')
	if err != nil {
		return "dead"
	}
	return strings.TrimSpace(answer)
}

// A program that shows that it will enter a sandbox is guarded as it runs, by a guard that
// reads without system calls: whenever it enters it, and whatever the filter answers, it
// lives, and the attack is rejected.
func TestSandboxEnteredLater(t *testing.T) {
	w := layOut(t, "testdata/box.c")
	w.write("TEST-AGENT.go", readingGuard)
	w.policy(theRule)
	w.begin(false)
	w.waitForGate()
	for _, tt := range []struct{ after, answer string }{{"1", "kill"}, {"100", "kill"}, {"5000", "kill"}, {"100", "1"}, {"100", "38"}} {
		t.Run(tt.after+"ms-"+tt.answer, func(t *testing.T) {
			s := w.run(exec.Command(w.victim, tt.after, tt.answer))
			if p := w.eventually(s.cmd.Process.Pid, Guarded); p.Held {
				t.Errorf("it was not let run first: %+v", p)
			} else {
				t.Logf("unguarded for %v", p.Window)
			}
			wait, err := time.ParseDuration(tt.after + "ms")
			if err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(wait + 500*time.Millisecond); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if good, bad := s.say("hello"), s.say("!"); good != "7" || bad != "-1" {
					t.Fatalf("answers %s, and %s to an attack", good, bad)
				}
			}
			if reads := readsOf(t, s); reads != "table" {
				t.Errorf("its guard reads by %q", reads)
			}
		})
	}
}

// Where a sandbox answers a guard's own read by an errno, that is counted as such: it is no
// address that cannot be read.
func TestSandboxRefusesReads(t *testing.T) {
	w := layOut(t, "testdata/box.c")
	for _, tt := range []struct {
		errno   string
		refused bool
	}{{"1", true}, {"38", true}, {"14", false}} { // EPERM, ENOSYS, EFAULT
		t.Run(tt.errno, func(t *testing.T) {
			p, err := pie.Load(map[string][]byte{"guard.go": []byte(readingGuard)})
			if err != nil {
				t.Fatal(err)
			}
			s := w.run(exec.Command(w.victim, "2000", tt.errno))
			pids := pie.Pids(s.cmd.Process.Pid)
			if _, err := pie.Insert(t.Context(), p, pids, pie.Options{Mode: pie.ModeEnforce, CopyReads: true}); err != nil {
				t.Fatal(err)
			}
			if good, bad := s.say("hello"), s.say("!"); good != "7" || bad != "-1" {
				t.Fatalf("answers %s, and %s to an attack", good, bad)
			}
			time.Sleep(3 * time.Second)
			for range 5 {
				s.say("hello")
			}
			all, err := pie.Status(t.Context(), pids)
			if err != nil || len(all) != 1 {
				t.Fatalf("%+v, %v", all, err)
			}
			if g := all[0].Prepatches[0].Guards[0]; g.Errors != 5 || (g.Refused == 5) != tt.refused || (g.Refused == 0) == tt.refused {
				t.Errorf("%+v", g)
			}
		})
	}
}

// Of a program that shows nothing of its sandbox a held start is guarded by reads through the
// kernel, and a few seconds later no more: a sandbox that it enters then does no harm. Where
// its threads allow nothing else, and it is in one, the guard is taken out, and that is told.
func TestSandboxHidden(t *testing.T) {
	for _, tt := range []struct {
		name, after, answer string
		flags               []string
		state               string
	}{
		{"late", "8000", "kill", []string{"-DHIDDEN"}, Guarded},
		{"blocked", "300", "1", []string{"-DHIDDEN", "-DBLOCKED"}, Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := layOut(t, "testdata/box.c")
			w.victim = w.compile("victim", "box.c", tt.flags...)
			w.write("TEST-AGENT.go", readingGuard)
			w.policy(theRule)
			w.begin(false)
			w.waitForGate()
			s := w.heldServer(tt.after, tt.answer)
			for try := 1; readsOf(t, s) != "copy"; try++ { // a busy machine was slower than the agent is in changing that
				if try == 5 {
					t.Fatal("no held start was seen to read by copies")
				}
				s = w.heldServer(tt.after, tt.answer)
			}
			time.Sleep(9500 * time.Millisecond)
			if good := s.say("hello"); good != "7" {
				t.Fatalf("answers %s", good)
			}
			p := w.eventually(s.cmd.Process.Pid, tt.state)
			switch bad := s.say("!"); {
			case tt.state == Guarded && (bad != "-1" || readsOf(t, s) != "table"):
				t.Errorf("answers %s to an attack; its guard reads by %s", bad, readsOf(t, s))
			case tt.state == Refused && (bad != "7" || p.Code != pie.CodeSeccomp):
				t.Errorf("answers %s to an attack: %+v", bad, p)
			}
		})
	}
}

// A guard that reads no memory is put into such a program before its first instruction, as
// into any other.
func TestSandboxHeldForNumbers(t *testing.T) {
	w := layOut(t, "testdata/box.c")
	w.write("TEST-AGENT.go", strings.Replace(readingGuard, "c.Bytes(text, 1).At(0) == '!'", "n == 7", 1))
	w.policy(theRule)
	w.begin(false)
	w.waitForGate()
	s := w.heldServer("20", "kill")
	time.Sleep(50 * time.Millisecond)
	if got := s.say("hello"); got != "-1" {
		t.Errorf("answers %s", got)
	}
}

// heldServer starts victims until one was guarded before it ran: on a busy machine some are
// let go of.
func (w *world) heldServer(args ...string) *server {
	w.t.Helper()
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) { // the gate gets ready anew
		s := w.run(exec.Command(w.victim, args...))
		for range 20 {
			time.Sleep(50 * time.Millisecond)
			if p := w.known(s.cmd.Process.Pid); p != nil {
				if p.State == Guarded && p.Held {
					return s
				}
				break
			}
		}
	}
	w.t.Fatal("no start was held to its end")
	return nil
}

// known is what the agent says of a process, nil when it says nothing.
func (w *world) known(pid int) *Process {
	w.t.Helper()
	s, err := w.client.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range s.Processes {
		if p.Pid == pid {
			return &p
		}
	}
	return nil
}

// waitForGate waits until starts of the victim are held.
func (w *world) waitForGate() {
	w.t.Helper()
	for range 100 {
		s, err := w.client.Status(w.t.Context())
		if err == nil && s.Holding.On && s.Holding.Executables > 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatal("nothing is held")
}
