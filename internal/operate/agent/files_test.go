package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// takenWithin is how long a changed policy may take until it is in force.
const takenWithin = 20 * time.Second

// until waits for what the agent's status is to say.
func (w *world) until(what string, is func(*Status) bool) {
	w.t.Helper()
	for end := time.Now().Add(takenWithin); ; time.Sleep(50 * time.Millisecond) {
		s, err := w.client.Status(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		if is(s) {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("not %s: %+v", what, s)
		}
	}
}

// A policy that is being written, has vanished, or was replaced by one of the same size and
// time: what is in force stays until there is another one, which is taken then.
func TestPolicyFileComesAndGoes(t *testing.T) {
	w := newWorld(t, theRule+" # enforced", false)
	s := w.server()
	pid := s.cmd.Process.Pid
	w.eventually(pid, Guarded)
	path := filepath.Join(w.dir, "policy")

	w.write("policy", "# half of a policy, which for itself is one without a rule\n")
	for end := time.Now().Add(fileInterval - 100*time.Millisecond); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s, err := w.client.Status(context.Background()); err != nil || len(s.Rules) != 1 {
			t.Fatalf("half of a policy was taken: %+v, %v", s, err)
		}
	}
	w.policy(theRule + " # enforced")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.until("told that the policy has gone", func(s *Status) bool { return strings.Contains(s.PolicyError, "no such file") && len(s.Rules) == 1 })
	if inMode(t, pid) != pie.ModeEnforce {
		t.Error("the policy has gone, and the guard with it")
	}
	w.policy(theRule + " # enforced")
	w.until("well when it is back", func(s *Status) bool { return s.PolicyError == "" && len(s.Rules) == 1 })

	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	w.write("new", strings.ReplaceAll("TEST-AGENT exe=VICTIM audit # recounting", "VICTIM", w.victim))
	new := filepath.Join(w.dir, "new")
	if now, err := os.Stat(new); err != nil || now.Size() != st.Size {
		t.Fatalf("the test is to make a file of %d bytes: %v, %v", st.Size, now, err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, new, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(new, path); err != nil {
		t.Fatal(err)
	}
	w.until("taken though it is as long and as old", func(*Status) bool { return inMode(t, pid) == pie.ModeAudit })
}

// A clock that was set forward has rules end, for their days are over; when it is set back
// they are kept up again.
func TestClockIsSet(t *testing.T) {
	w := newWorld(t, theRule+" until="+time.Now().AddDate(0, 1, 0).Format(time.DateOnly), false)
	s := w.server()
	pid := s.cmd.Process.Pid
	w.eventually(pid, Guarded)
	set := func(ahead time.Duration) {
		t.Helper()
		if err := w.agent.request(context.Background(), func() {
			w.agent.now = func() time.Time { return time.Now().Add(ahead) }
			w.agent.pass(context.Background())
		}); err != nil {
			t.Fatal(err)
		}
	}
	set(365 * 24 * time.Hour)
	w.until("over", func(s *Status) bool { return s.Rules[0].Over != "" && !s.Holding.On && inMode(t, pid) == "" })
	set(0)
	w.until("kept up again", func(s *Status) bool {
		return s.Rules[0].Over == "" && s.Holding.On && inMode(t, pid) == pie.ModeEnforce
	})
}

// A process that ran before the policy asked for its guard did not run unguarded until then.
func TestRuleThatComesLater(t *testing.T) {
	w := newWorld(t, "# nothing yet", true)
	s := w.server()
	time.Sleep(300 * time.Millisecond)
	w.policy(theRule)
	if err := w.client.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := w.eventually(s.cmd.Process.Pid, Guarded); p.Window != 0 {
		t.Errorf("it is told as unguarded for %v", p.Window)
	}
	w.policy(theRule + " # as before")
	if err := w.client.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := w.eventually(w.server().cmd.Process.Pid, Guarded); p.Window == 0 {
		t.Error("of one that started after it, how long it was unguarded is not told")
	}
}

// A folder of prepatches that is a link is followed, and what cannot be looked at in it is
// not silently the catalogue's of the same name.
func TestFolderOfPrepatches(t *testing.T) {
	dir := t.TempDir()
	real, link, loop := filepath.Join(dir, "real"), filepath.Join(dir, "link"), filepath.Join(dir, "loop")
	own := filepath.Join(real, "CVE-2024-31228")
	file := filepath.Join(own, "guard.go")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{link: real, loop: loop} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := &Agent{c: Config{Policy: filepath.Join(dir, "policy"), Prepatches: link}}
	before := a.stampNow()
	if err := os.WriteFile(file, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if a.stampNow() == before {
		t.Error("a file that changes in a folder that is a link is not noticed")
	}
	if _, err := findPrepatch(loop, "CVE-2024-31228"); err == nil {
		t.Error("a folder that cannot be looked at has the catalogue's prepatch taken")
	}
	if _, err := findPrepatch(filepath.Join(dir, "none"), "CVE-2024-31228"); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := findPrepatch(link, "CVE-2024-31228"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe in its place: %v", err)
	}
}
