package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/agent"
)

// boxed is how a container confines what runs in it, beside namespaces, a read-only
// root, dropped capabilities and no new privileges.
type boxed struct {
	name    string
	seccomp bool // a filter that answers EPERM, as runtimes have by default
	user    bool // a user namespace
}

var boxes = []boxed{
	{"plain", false, false},
	{"seccomp", true, false},
	{"user namespace", false, true},
	{"seccomp and user namespace", true, true},
}

// container is a redis-server in a container of runc.
type container struct {
	t      *testing.T
	id     string // 64 digits, as runtimes give
	dir    string // its bundle
	port   int
	server *server
}

// newContainer lays out an image: the server, its libraries, and nothing else.
func newContainer(t *testing.T, b boxed) *container {
	t.Helper()
	if _, err := exec.LookPath("runc"); err != nil {
		t.Fatalf("%v (scripts/setup installs what is missing)", err)
	}
	id := make([]byte, 32)
	if _, err := rand.Read(id); err != nil {
		t.Fatal(err)
	}
	// Its user is another one than ours: it has to get to the image.
	dir, err := os.MkdirTemp("", "pie-e2e-box")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &container{t: t, id: hex.EncodeToString(id), dir: dir, port: freePort(t)}
	layOutImage(t, filepath.Join(dir, "rootfs"), filepath.Join(installed(t, "redis"), "redis-server"))
	config, err := json.Marshal(c.config(b))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.remove)
	return c
}

// layOutImage copies a program and what it is linked with to where they are looked for.
func layOutImage(t *testing.T, root, program string) {
	t.Helper()
	needed, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	copies := map[string]string{program: "/bin/" + filepath.Base(program)}
	for field := range strings.FieldsSeq(string(needed)) {
		if strings.HasPrefix(field, "/") {
			copies[field] = field
		}
	}
	for _, dir := range []string{"proc", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range copies {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, to), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// config is config.json of the OCI runtime specification. The network is ours, so that
// clients reach the server on the loopback interface.
func (c *container) config(b boxed) map[string]any {
	type m = map[string]any
	mount := func(to, kind string, options ...string) m {
		return m{"destination": to, "type": kind, "source": kind, "options": append([]string{"nosuid"}, options...)}
	}
	namespaces := []m{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}
	linux := m{"cgroupsPath": "/pie-e2e/" + c.id}
	if b.user {
		const first, size = 200000, 65536
		namespaces = append(namespaces, m{"type": "user"})
		ids := []m{{"containerID": 0, "hostID": first, "size": size}}
		linux["uidMappings"], linux["gidMappings"] = ids, ids
	}
	if b.seccomp {
		linux["seccomp"] = m{
			"defaultAction": "SCMP_ACT_ALLOW", "architectures": []string{"SCMP_ARCH_X86_64"},
			"syscalls": []m{{"action": "SCMP_ACT_ERRNO", "names": []string{
				"mount", "umount2", "setns", "unshare", "bpf", "perf_event_open", "keyctl", "ptrace", "process_vm_readv", "process_vm_writev", "userfaultfd"}}},
		}
	}
	linux["namespaces"] = namespaces
	return m{
		"ociVersion": "1.0.2",
		"root":       m{"path": "rootfs", "readonly": true},
		"mounts":     []m{mount("/proc", "proc"), mount("/dev", "tmpfs", "mode=755"), mount("/tmp", "tmpfs", "nodev")},
		"linux":      linux,
		"process": m{
			"user": m{"uid": 0, "gid": 0}, "cwd": "/", "noNewPrivileges": true, "env": []string{"PATH=/bin"}, "capabilities": m{},
			"args": []string{"/bin/redis-server", "--port", strconv.Itoa(c.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"},
		},
	}
}

// runc runs one command of the runtime about the container.
func (c *container) runc(args ...string) *exec.Cmd {
	cmd := exec.Command("runc", append([]string{"--root", filepath.Join(c.dir, "state")}, args...)...)
	cmd.Dir = c.dir
	return cmd
}

// start starts it and waits until it answers.
func (c *container) start() {
	c.t.Helper()
	_ = os.Remove(filepath.Join(c.dir, "pid")) // of the start before
	c.server = startServer(c.t, c.port, c.runc("run", "--pid-file", "pid", c.id))
}

// pid is that of its server, which may answer before the runtime has written it down.
func (c *container) pid() int {
	c.t.Helper()
	name := filepath.Join(c.dir, "pid")
	b, err := os.ReadFile(name)
	for end := time.Now().Add(10 * time.Second); errors.Is(err, fs.ErrNotExist) && time.Now().Before(end); b, err = os.ReadFile(name) {
		time.Sleep(5 * time.Millisecond)
	}
	pid, bad := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || bad != nil {
		c.t.Fatalf("%v, %v", err, bad)
	}
	return pid
}

// remove ends it, for another start as well.
func (c *container) remove() {
	if c.server == nil {
		return
	}
	_ = c.runc("delete", "--force", c.id).Run()
	c.server.kill()
	c.server = nil
}

// executes runs another process in the container.
func (c *container) executes() {
	c.t.Helper()
	out, err := c.runc("exec", c.id, "/bin/redis-server", "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Redis server v=") {
		c.t.Errorf("runc exec: %v\n%s", err, out)
	}
}

// attacked sends the attack, which has to be answered as a guard answers it, and a
// request that is none.
func (c *container) attacked() {
	c.t.Helper()
	if err := attackRedis(manyStars)(c.server.addr); err != nil {
		c.t.Errorf("the attack: %v", err)
	}
	client, err := newRedisClient(c.server.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	if got, err := client.do("PING"); err != nil || got != "PONG" && got != "+PONG" {
		c.t.Errorf("after the attack: %q, %v", got, err)
	}
}

const boxedPrepatch = "CVE-2024-31228"

// A server in a container is found, guarded under attack and let alone again; who is
// executed in the container beside it is not in the way.
func TestContainer(t *testing.T) {
	for _, b := range boxes {
		t.Run(b.name, func(t *testing.T) {
			c := newContainer(t, b)
			c.start()
			pid := c.pid()
			target := []string{"--container", c.id[:12]}
			var found []pie.ScanResult
			pieRun(t, piePath, &found, append([]string{"scan"}, target...)...)
			if !guardable(found, pid) {
				t.Errorf("pie scan does not find pid %d: %+v", pid, found)
			}
			var report pie.Report
			pieRun(t, piePath, &report, append([]string{"insert", boxedPrepatch, "--trial", "0"}, target...)...)
			if len(report.Processes) != 1 || report.Processes[0].Pid != pid || report.Processes[0].State != pie.StateGuarded {
				t.Fatalf("pie insert: %+v", report)
			}
			c.executes()
			c.attacked()
			var status []pie.ProcessStatus
			pieRun(t, piePath, &status, "status", "--exe", filepath.Join(c.dir, "rootfs/bin/redis-server"))
			if len(status) != 1 || status[0].Pid != pid || rejects(status, boxedPrepatch) == 0 {
				t.Errorf("pie status: %+v", status)
			}
			pieRun(t, otherBuild, nil, append([]string{"remove", boxedPrepatch}, target...)...)
			if n, err := pie.CompareText(t.Context(), pid); err != nil || n == 0 {
				t.Errorf("after the removal: %v, %d bytes equal the files", err, n)
			}
			c.executes()
		})
	}
}

func guardable(found []pie.ScanResult, pid int) bool {
	for _, r := range found {
		if r.ID == boxedPrepatch && r.Pid == pid && r.State == pie.ScanGuardable {
			return true
		}
	}
	return false
}

// A container that appears while the agent runs is guarded, by a rule that names its id
// or where its image lies; in the second case it is held at its start.
func TestContainerUnderAgent(t *testing.T) {
	for _, b := range boxes {
		t.Run(b.name, func(t *testing.T) {
			c := newContainer(t, b)
			image := filepath.Join(c.dir, "rootfs/bin/redis-server")
			client, log := startAgent(t, []agentCase{{name: b.name, binary: image, scenario: redisScenario}})
			for range 3 {
				c.start()
				p := awaitAgent(t, client, c.pid(), log)
				if !p.Held && p.Window <= 0 {
					t.Errorf("how long it ran unguarded is not known: %+v", p)
				}
				t.Logf("held: %v, unguarded for %v", p.Held, p.Window)
				c.attacked()
				c.executes()
				c.remove()
			}
			if strings.Contains(log.String(), "no such process") {
				t.Errorf("the agent thinks that a process has ended which it let go of:\n%s", log)
			}
		})
	}
}

// awaitAgent waits until the agent says that a process is guarded.
func awaitAgent(t *testing.T, client *agent.Client, pid int, log fmt.Stringer) agent.Process {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		s, err := client.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.Processes {
			if p.Pid == pid && p.State == agent.Guarded {
				return p
			}
		}
	}
	t.Fatalf("the agent does not guard pid %d\n%s", pid, log)
	return agent.Process{}
}
