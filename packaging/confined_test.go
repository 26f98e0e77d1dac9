package packaging_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/agent"
)

const confinedGuard = `// Package prepatch guards the victim.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id TEST-UNIT

//pie:guard exe=victim func=lookup onfault=pass onfuel=pass
func Lookup(c *libpie.Call, text libpie.Addr, n int32) libpie.Verdict {
	if c.Bytes(text, int(n)).Count('*') > 5 {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`

// nobody is another user than the agent's: what belongs to it takes capabilities.
const nobody = 65534

// confined is an agent that runs as its unit says, and a program for it to guard.
type confined struct {
	t           *testing.T
	dir, victim string
	socket      string
	log         *bufio.Reader // the other end of its standard error
	journal     net.Conn
}

// buildPie makes the command.
func buildPie(t *testing.T) (pie string) {
	t.Helper()
	pie = filepath.Join(t.TempDir(), "pie")
	if out, err := exec.Command("go", "build", "-o", pie, "../cmd/pie").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return pie
}

// confine builds the victim and starts the agent, without one of its capabilities unless
// that is empty. Its standard error is a stream socket, as systemd connects it to the journal.
func confine(t *testing.T, pie, without string) *confined {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // for nobody to get there
			t.Fatal(err)
		}
	}
	c := &confined{t: t, dir: dir, victim: filepath.Join(dir, "victim"), socket: filepath.Join(dir, "run", "sock")}
	for _, args := range [][]string{
		{"gcc", "-O2", "-o", c.victim, "testdata/victim.c"},
		{"mkdir", "-p", filepath.Dir(c.socket), filepath.Join(dir, "prepatches")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	for name, text := range map[string]string{"prepatches/TEST-UNIT.go": confinedGuard, "policy": "TEST-UNIT exe=" + c.victim + " enforce\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var capabilities strings.Builder
	for name := range strings.FieldsSeq(settings(t)["CapabilityBoundingSet"]) {
		if name == without {
			continue
		}
		fmt.Fprintf(&capabilities, ",+%s", strings.ToLower(strings.TrimPrefix(name, "CAP_")))
	}
	cmd := exec.Command("unshare", "--mount", "sh", "testdata/confine.sh", filepath.Dir(c.socket), capabilities.String(),
		pie, "agent", "--policy", filepath.Join(dir, "policy"), "--prepatches", filepath.Join(dir, "prepatches"), "--socket", c.socket)
	c.connectJournal(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr.(*os.File).Close()
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	return c
}

// connectJournal makes the command's standard error a stream socket.
func (c *confined) connectJournal(cmd *exec.Cmd) {
	c.t.Helper()
	path := filepath.Join(c.dir, "journal")
	l, err := net.Listen("unix", path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("unix", path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer theirs.Close()
	if c.journal, err = l.Accept(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = c.journal.Close() })
	f, err := theirs.(*net.UnixConn).File()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stderr, c.log = f, bufio.NewReader(c.journal)
}

// awaitLog reads lines of the log, each of which is JSON, until one has a message.
func (c *confined) awaitLog(msg string) {
	c.t.Helper()
	if err := c.journal.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	var seen []string
	for {
		line, err := c.log.ReadBytes('\n')
		if err != nil {
			c.t.Fatalf("the log does not say %q: %v\n%s", msg, err, strings.Join(seen, ""))
		}
		seen = append(seen, string(line))
		var entry struct{ Time, Level, Msg string }
		if err := json.Unmarshal(line, &entry); err != nil || entry.Time == "" || entry.Level == "" {
			c.t.Fatalf("a line of the log is no JSON: %v\n%s", err, line)
		}
		if strings.HasPrefix(entry.Msg, msg) {
			return
		}
	}
}

// guarded starts a victim of another user and waits until it turns the attack away.
func (c *confined) guarded() {
	c.t.Helper()
	if !c.turnsAway(30 * time.Second) {
		c.t.Fatal("the attack is not turned away")
	}
}

// turnsAway tells whether a victim of another user turns the attack away within the time.
func (c *confined) turnsAway(within time.Duration) bool {
	c.t.Helper()
	cmd := exec.Command(c.victim)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	answers := bufio.NewScanner(out)
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		fmt.Fprint(in, "a*b\n", strings.Repeat("*", 100), "\n")
		if !answers.Scan() || answers.Text() != "1" || !answers.Scan() {
			c.t.Fatalf("a good call is answered %q", answers.Text())
		}
		if turned := answers.Text() == "-1"; turned || time.Now().After(end) {
			return turned
		}
	}
}

// With the unit's capabilities and nothing to write to but its folder, the agent holds
// and guards programs of other users, answers at its socket, and logs to the journal,
// whose end changes nothing.
func TestAgentAsConfined(t *testing.T) {
	c := confine(t, buildPie(t), "")
	c.awaitLog("agent started")
	c.awaitLog("new processes are held until they are guarded")
	c.guarded()
	c.awaitLog("guarded") // or: guarded before it ran
	client := agent.Dial(c.socket)
	s, err := client.Status(context.Background())
	if err != nil || !s.Holding.On || len(s.Healthy()) > 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	c.journal.Close()
	c.guarded()
	if s, err := client.Status(context.Background()); err != nil || len(s.Healthy()) > 0 {
		t.Errorf("without a journal: %+v, %v", s, err)
	}
}

// Each capability of the unit is needed: without it something is lost, the agent says what,
// and where that is a guard it does not call itself healthy. CAP_SYS_RESOURCE and CAP_CHOWN
// are not here: this machine's root may lack the first, the second is for --group alone; nor
// is CAP_NET_ADMIN, which newer kernels do not ask for.
func TestEachCapabilityIsNeeded(t *testing.T) {
	command := buildPie(t)
	for _, tt := range []struct {
		name            string
		guards, healthy bool
		lost            func(c *confined, s *agent.Status) bool
	}{
		{"CAP_SYS_PTRACE", false, false, func(c *confined, s *agent.Status) bool { return len(s.Processes) == 0 }},
		{"CAP_DAC_OVERRIDE", false, false, func(c *confined, s *agent.Status) bool {
			return len(s.Processes) > 0 && s.Processes[0].Code == pie.CodePermission
		}},
		{"CAP_SYS_ADMIN", true, true, func(c *confined, s *agent.Status) bool { return !s.Holding.On && s.Holding.Why != "" }},
		{"CAP_SYS_NICE", true, true, func(c *confined, s *agent.Status) bool {
			return !strings.Contains(c.ofGate(s.Pid, "sched"), "\npolicy                                       :                    1\n")
		}},
		{"CAP_IPC_LOCK", true, true, func(c *confined, s *agent.Status) bool {
			return strings.Contains(c.ofGate(s.Pid, "status"), "\nVmLck:\t       0 kB\n")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := confine(t, command, tt.name)
			c.awaitLog("a capability is missing")
			patience := 30 * time.Second
			if !tt.guards {
				patience = 3 * time.Second
			}
			var s *agent.Status
			var err error
			began := make(chan struct{})
			go func() { // while the victim is there
				defer close(began)
				for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
					if s, err = agent.Dial(c.socket).Status(context.Background()); err == nil && tt.lost(c, s) && len(s.Processes) > 0 {
						return
					}
				}
			}()
			guards := c.turnsAway(patience)
			if <-began; err != nil {
				t.Fatal(err)
			}
			if guards != tt.guards || len(s.Healthy()) == 0 != tt.healthy || !slices.Contains(s.Missing, tt.name) || !tt.lost(c, s) {
				t.Errorf("guards: %v; problems: %q; status: %+v", guards, s.Healthy(), s)
			}
		})
	}
}

// ofGate is a file of /proc of the gate's process.
func (c *confined) ofGate(agent int, name string) string {
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", agent))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, file := range children {
		text, _ := os.ReadFile(file)
		for pid := range strings.FieldsSeq(string(text)) {
			if cmd, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.HasPrefix(string(cmd), "pie-gate\x00") {
				text, _ := os.ReadFile("/proc/" + pid + "/" + name)
				return string(text)
			}
		}
	}
	return ""
}
