package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

const guardSource = `// Package prepatch guards the victim.
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id TEST-AGENT

//pie:guard exe=victim func=lookup onfault=pass onfuel=pass
func Lookup(_ *libpie.Call, n int32) libpie.Verdict {
	if n > 100 {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`

// world is an agent with its files and a program to guard.
type world struct {
	t           testing.TB
	dir, victim string
	agent       *Agent
	client      *Client
	stop        func()
	log         io.Writer // nil: the test's own, which keeps it in memory
}

func newWorld(t testing.TB, policy string, pollOnly bool) *world {
	t.Helper()
	w := layOut(t, "testdata/victim.c")
	w.policy(policy)
	w.begin(pollOnly)
	return w
}

// layOut makes a world without an agent, whose victim is made of a C file.
func layOut(t testing.TB, source string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.victim = filepath.Join(w.dir, "victim")
	if out, err := exec.Command("gcc", "-O2", "-o", w.victim, source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s(scripts/setup installs what is missing)", err, out)
	}
	w.write("TEST-AGENT.go", guardSource)
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// policy writes the policy; VICTIM stands for its path.
func (w *world) policy(text string) {
	w.t.Helper()
	w.write("policy", strings.ReplaceAll(text, "VICTIM", w.victim))
}

// begin starts the agent and waits until it has looked at everything once.
func (w *world) begin(pollOnly bool) {
	w.t.Helper()
	if w.log == nil {
		w.log = w.t.Output()
	}
	var err error
	w.agent, err = New(Config{Policy: filepath.Join(w.dir, "policy"), Prepatches: w.dir, Version: "test",
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), PollOnly: pollOnly})
	if err != nil {
		w.t.Fatal(err)
	}
	socket := filepath.Join(w.dir, "sock")
	l, err := Listen(socket, "")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { _ = w.agent.Serve(ctx, l); ended <- struct{}{} }()
	go func() { _ = w.agent.Run(ctx); ended <- struct{}{} }()
	w.stop = sync.OnceFunc(func() { cancel(); <-ended; <-ended })
	w.client = Dial(socket)
	w.t.Cleanup(w.stop)
	if _, err := w.client.Status(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// server is a victim that answers lines.
type server struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func (w *world) server() *server {
	w.t.Helper()
	return w.run(exec.Command(w.victim))
}

// run starts a program that answers lines.
func (w *world) run(cmd *exec.Cmd) *server {
	w.t.Helper()
	s := &server{cmd: cmd}
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	s.in, s.out = in, bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return s
}

func (s *server) ask(n int) string {
	fmt.Fprintln(s.in, n)
	line, err := s.out.ReadString('\n')
	if err != nil {
		return "dead"
	}
	return strings.TrimSpace(line)
}

// eventually waits until the agent says what is wanted of a process.
func (w *world) eventually(pid int, state string) Process {
	w.t.Helper()
	var last *Status
	for range 150 {
		s, err := w.client.Status(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		last = s
		for _, p := range s.Processes {
			if p.Pid == pid && p.State == state {
				return p
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatalf("pid %d is not %s: %+v", pid, state, last)
	return Process{}
}

func inMode(t *testing.T, pid int) pie.Mode {
	t.Helper()
	all, err := pie.Status(context.Background(), pie.Pids(pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 || len(all[0].Prepatches) == 0 {
		return ""
	}
	return all[0].Prepatches[0].Mode
}

const theRule = "TEST-AGENT exe=VICTIM enforce"

// What runs already is guarded, what starts is guarded before it runs, and the
// end of the agent touches nobody.
func TestKeeps(t *testing.T) {
	w := newWorld(t, theRule, false)
	old := w.server()
	w.eventually(old.cmd.Process.Pid, Guarded)
	if got := old.ask(101); got != "-1" {
		t.Errorf("the attack: %s", got)
	}
	held, tries := 0, 0
	for ; tries < 10 || held == 0 && tries < 80; tries++ { // the first come before the gate's workers are ready
		cmd := exec.Command(w.victim, "101")
		_ = cmd.Run()
		if cmd.ProcessState.ExitCode() == 7 {
			held++
		}
		time.Sleep(50 * time.Millisecond)
	}
	if t.Logf("%d of %d guarded before they ran", held, tries); held == 0 && !raced {
		t.Error("none was guarded before it ran")
	}
	w.stop()
	if got := old.ask(101); got != "-1" {
		t.Errorf("without the agent: %s", got)
	}
	w.begin(false)
	w.eventually(old.cmd.Process.Pid, Guarded)
	if got := old.ask(4); got != "4" {
		t.Errorf("a good call: %s", got)
	}
}

// Where held programs are followed by system calls the log says so, once; never where
// none is held.
func TestTellsWhyHoldsAreSlow(t *testing.T) {
	told := func(pollOnly bool) int {
		w := layOut(t, "testdata/victim.c")
		path := filepath.Join(w.dir, "log")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w.log = f
		w.policy(theRule)
		w.begin(pollOnly)
		w.policy(strings.Replace(theRule, "enforce", "audit", 1)) // takes another gate
		if err := w.client.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.stop()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "holds take longer on this machine")
	}
	want := 0
	if pie.FollowedByCalls() != "" {
		want = 1
	}
	if got := told(false); got != want {
		t.Errorf("told %d times, want %d", got, want)
	}
	if got := told(true); got != 0 {
		t.Errorf("nothing is held, and it was told %d times", got)
	}
}

// Without fanotify and connector the window is measured and shown.
func TestPolls(t *testing.T) {
	w := newWorld(t, theRule, true)
	s := w.server()
	p := w.eventually(s.cmd.Process.Pid, Guarded)
	if p.Held || p.Window <= 0 || p.Window > 30*time.Second {
		t.Errorf("%+v", p)
	}
	if got := s.ask(101); got != "-1" {
		t.Errorf("the attack: %s", got)
	}
}

// A changed policy is followed; one with a mistake changes nothing.
func TestPolicyChanges(t *testing.T) {
	w := newWorld(t, theRule, false)
	s := w.server()
	pid := s.cmd.Process.Pid
	w.eventually(pid, Guarded)
	for _, bad := range []string{"TEST-AGENT exe=", "NO-SUCH-1 host enforce", "\x00", strings.Repeat("x", 2<<20)} {
		w.policy(bad)
		if err := w.client.Reload(context.Background()); err == nil {
			t.Errorf("%.40q is taken", bad)
		}
		if st, err := w.client.Status(context.Background()); err != nil || st.PolicyError == "" || len(st.Rules) != 1 || inMode(t, pid) != pie.ModeEnforce {
			t.Errorf("%.40q changed something: %+v, %v", bad, st, err)
		}
	}
	w.write("TEST-AGENT.go", "package prepatch\nfunc (")
	w.policy(theRule + " # again")
	if err := w.client.Reload(context.Background()); err == nil || inMode(t, pid) != pie.ModeEnforce {
		t.Errorf("a broken prepatch is taken: %v", err)
	}
	w.write("TEST-AGENT.go", guardSource)
	w.policy("TEST-AGENT exe=VICTIM audit")
	if err := w.client.Reload(context.Background()); err != nil || inMode(t, pid) != pie.ModeAudit {
		t.Errorf("%v, mode %s", err, inMode(t, pid))
	}
	w.policy(theRule + " until=" + time.Now().AddDate(0, 0, -1).Format(time.DateOnly))
	if err := w.client.Reload(context.Background()); err != nil || inMode(t, pid) != "" {
		t.Errorf("a rule that is over: %v, mode %q", err, inMode(t, pid))
	}
}

// What an operator switches off or takes out stays so.
func TestLeavesAlone(t *testing.T) {
	w := newWorld(t, theRule, false)
	s := w.server()
	pid := s.cmd.Process.Pid
	w.eventually(pid, Guarded)
	ctx := context.Background()
	if err := w.client.Suspend(ctx, "TEST-AGENT"); err != nil {
		t.Fatal(err)
	}
	if _, err := pie.Remove(ctx, "TEST-AGENT", pie.Pids(pid)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	if m := inMode(t, pid); m != "" {
		t.Errorf("it came back: %s", m)
	}
	if err := w.client.Suspend(ctx, "NO-SUCH-1"); err == nil {
		t.Error("suspended what no rule is about")
	}
	w.policy(theRule + " # again")
	if err := w.client.Reload(ctx); err != nil || inMode(t, pid) != pie.ModeEnforce {
		t.Errorf("after a reload: %v, %q", err, inMode(t, pid))
	}
	if _, err := pie.SetMode(ctx, "TEST-AGENT", pie.ModeOff, pie.Pids(pid)); err != nil {
		t.Fatal(err)
	}
	w.policy(theRule + " # once more")
	if err := w.client.Reload(ctx); err != nil || inMode(t, pid) != pie.ModeOff {
		t.Errorf("off became %q, %v", inMode(t, pid), err)
	}
}

// The socket answers members of its group, by what the kernel says of who connects.
func TestSocketOfAGroup(t *testing.T) {
	const other, member, group = 65533, 65532, 65531
	listener, err := net.Listen("unix", fmt.Sprintf("@pie-agent-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	l := &peerListener{gid: group}
	for _, c := range []struct {
		name   string
		user   syscall.Credential
		answer bool
	}{
		{"root", syscall.Credential{}, true},
		{"primary group", syscall.Credential{Uid: member, Gid: group}, true},
		{"one of its groups", syscall.Credential{Uid: member, Gid: member, Groups: append(make([]uint32, 70), group)}, true},
		{"another group", syscall.Credential{Uid: other, Gid: other, Groups: []uint32{1, 2}}, false},
	} {
		fd, err := connectAs(c.user, listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := l.permitted(conn); got != c.answer {
			t.Errorf("%s: permitted %v, want %v", c.name, got, c.answer)
		}
		conn.Close()
		unix.Close(fd)
	}
}

// connectAs connects from a thread that has become another user, and then ends.
func connectAs(user syscall.Credential, path string) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: nobody else gets the thread
		groups := append(user.Groups, 0)
		for _, call := range [][4]uintptr{
			{unix.SYS_SETGROUPS, uintptr(len(user.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0},
			{unix.SYS_SETRESGID, uintptr(user.Gid), uintptr(user.Gid), uintptr(user.Gid)},
			{unix.SYS_SETRESUID, uintptr(user.Uid), uintptr(user.Uid), uintptr(user.Uid)},
		} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				err = errno
				return
			}
		}
		runtime.KeepAlive(groups)
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}
	}()
	<-done
	return fd, err
}

func TestParseExec(t *testing.T) {
	if _, ok := parseExec(make([]byte, 76)); ok {
		t.Error("zeros are an exec")
	}
	if len(listenMessage()) != unix.NLMSG_HDRLEN+cnHeader+4 {
		t.Error("a message of another size")
	}
}

func FuzzParseExec(f *testing.F) {
	f.Add(make([]byte, 76))
	f.Fuzz(func(t *testing.T, b []byte) { parseExec(b) })
}

// An upgrade in place leaves no start unheld: what starts at once after it is guarded
// before it runs, or the gate says that it came late. The agent's own eyes, the
// connector, are too late for that.
func TestUpgradeInPlace(t *testing.T) {
	w := newWorld(t, theRule, false)
	held := 0
	const upgrades = 10
	for range upgrades {
		b, err := os.ReadFile(w.victim)
		if err == nil {
			err = os.WriteFile(w.victim+".new", b, 0o755)
		}
		if err == nil {
			err = os.Rename(w.victim+".new", w.victim)
		}
		if err != nil {
			t.Fatal(err)
		}
		s := w.server()
		if w.eventually(s.cmd.Process.Pid, Guarded).Held {
			held++
		}
		_ = s.cmd.Process.Kill()
	}
	if t.Logf("%d of %d held", held, upgrades); held == 0 && !raced {
		t.Error("none was held")
	}
}
