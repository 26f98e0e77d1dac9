package target

import (
	"bufio"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// build compiles testdata/tree.c under a name no other process has.
func build(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "pietree"+strconv.Itoa(os.Getpid()))
	if b, err := exec.Command("gcc", "-o", exe, "testdata/tree.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v (is gcc installed? scripts/setup installs it)\n%s", err, b)
	}
	return exe
}

// plant starts a tree and returns its pids by name.
func plant(t *testing.T, exe string) map[string]int {
	t.Helper()
	cmd := exec.Command(exe)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	pids := map[string]int{}
	lines := bufio.NewScanner(stdout)
	for len(pids) < 4 && lines.Scan() {
		name, pid, _ := strings.Cut(lines.Text(), " ")
		pids[name], _ = strconv.Atoi(pid)
	}
	if len(pids) != 4 {
		t.Fatalf("the tree has only %v", pids)
	}
	return pids
}

func names(pids map[string]int, selected []int) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(pids)) {
		if slices.Contains(selected, pids[name]) {
			out = append(out, name)
		}
	}
	return out
}

func TestSelect(t *testing.T) {
	exe := build(t)
	link := filepath.Join(filepath.Dir(exe), "pielink"+strconv.Itoa(os.Getpid()))
	if err := os.Link(exe, link); err != nil {
		t.Fatal(err)
	}
	pids := plant(t, exe)
	family := []string{"grandchild", "master", "worker"}
	for _, c := range []struct {
		name string
		spec Spec
		want []string
	}{
		{"pid and descendants of the same executable", Spec{Pids: []int{pids["master"]}}, family},
		{"pid alone", Spec{Pids: []int{pids["master"]}, NoChildren: true}, []string{"master"}},
		{"a pid below", Spec{Pids: []int{pids["worker"]}}, []string{"worker"}},
		{"two pids", Spec{Pids: []int{pids["worker"], pids["shell"]}}, []string{"shell", "worker"}},
		{"executable by path", Spec{Exe: exe}, family},
		{"executable by name", Spec{Exe: filepath.Base(exe)}, family},
		{"executable by another link", Spec{Exe: link}, family},
		{"another link's name", Spec{Exe: filepath.Base(link)}, family},
		{"pid and executable that do not go together", Spec{Pids: []int{pids["shell"]}, Exe: exe}, nil},
		{"pid of a program the prepatch is not for", Spec{Pids: []int{pids["master"]}, Runs: []string{"redis-server"}}, nil},
		{"pid of a program the prepatch is for", Spec{Pids: []int{pids["master"]}, Runs: []string{"redis-server", exe}}, family},
		{"comm", Spec{Exe: "innocent"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			sel, err := New(c.spec)
			if err != nil {
				t.Fatal(err)
			}
			got, err := sel.Select(t.Context())
			if c.want == nil {
				if !errors.Is(err, ErrNone) {
					t.Errorf("%v, %v; want ErrNone", names(pids, got), err)
				}
				return
			}
			if err != nil || !slices.Equal(names(pids, got), c.want) || len(got) != len(c.want) {
				t.Errorf("%v (%v), %v; want %v", got, names(pids, got), err, c.want)
			}
			if slices.Contains(c.want, "master") && got[0] != pids["master"] {
				t.Errorf("%v: parents must come first", got)
			}
		})
	}
}

// A program in a root of its own is named by its path there, and by where that file lies
// in ours; a path that leads elsewhere in both is not its.
func TestPathOfAnotherRoot(t *testing.T) {
	root := t.TempDir()
	source, exe := filepath.Join(t.TempDir(), "waits.c"), filepath.Join(root, "waits")
	if err := os.WriteFile(source, []byte("#include <unistd.h>\nint main(void) { char c; return read(0, &c, 1); }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("gcc", "-static", "-o", exe, source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v (scripts/setup installs it)\n%s", err, b)
	}
	cmd := exec.Command("/waits")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	for path, want := range map[string]bool{exe: true, "/waits": true, source: false, "/bin/sh": false, filepath.Join(root, "none"): false} {
		sel, err := New(Spec{Exe: path})
		if err != nil {
			t.Fatal(err)
		}
		pids, err := sel.Select(t.Context())
		if got := slices.Contains(pids, cmd.Process.Pid); got != want || err != nil && !errors.Is(err, ErrNone) {
			t.Errorf("%s: selected %v, %v; want %v", path, got, err, want)
		}
		if got, err := sel.Has(cmd.Process.Pid); got != want || err != nil {
			t.Errorf("%s: Has says %v, %v; want %v", path, got, err, want)
		}
	}
}

func TestGroups(t *testing.T) {
	exe := build(t)
	one, two := plant(t, exe), plant(t, exe)
	sel, err := New(Spec{Exe: exe})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := sel.Groups(t.Context())
	if err != nil || len(groups) != 2 {
		t.Fatalf("%v, %v; want two groups", groups, err)
	}
	for i, pids := range []map[string]int{one, two} {
		if groups[i][0].Pid != pids["master"] || len(groups[i]) != 3 || groups[i][0].Exe != exe {
			t.Errorf("group %d is %v, want that of %v", i, groups[i], pids)
		}
	}
}

// The selector's pid is a process, not a number.
func TestPidIsPinned(t *testing.T) {
	sel, err := New(Spec{Pids: []int{os.Getppid()}})
	if err != nil {
		t.Fatal(err)
	}
	sel.roots[os.Getppid()]-- // as if the number had been taken over
	if got, err := sel.Select(t.Context()); !errors.Is(err, ErrNone) {
		t.Errorf("%v, %v; want ErrNone", got, err)
	}
	if _, err := New(Spec{Pids: []int{1 << 22}}); !errors.Is(err, proc.ErrGone) {
		t.Errorf("a pid of no process: %v, want ErrGone", err)
	}
}

// A process without children is looked at alone; what is selected is the same, and one that
// gets a child later is looked at with it.
func TestChildless(t *testing.T) {
	leaf := exec.Command("sleep", "60")
	if err := leaf.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = leaf.Process.Kill(); _ = leaf.Wait() }()
	tree := plant(t, build(t))
	for _, c := range []struct {
		pids []int
		ok   bool
	}{{[]int{leaf.Process.Pid}, true}, {[]int{leaf.Process.Pid, os.Getpid()}, false}, {[]int{1 << 30}, false}} {
		if table, ok := readChildless(c.pids); ok != c.ok || ok && len(table) != len(c.pids) {
			t.Errorf("%v: %v, %v", c.pids, table, ok)
		}
	}
	for _, pid := range append(slices.Collect(maps.Values(tree)), leaf.Process.Pid) {
		s, err := New(Spec{Pids: []int{pid}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Select(t.Context())
		if err != nil || !slices.Contains(got, pid) {
			t.Errorf("%d: %v, %v", pid, got, err)
		}
	}
}

func TestBadSpecs(t *testing.T) {
	for _, s := range []Spec{
		{Container: "web"},
		{Container: "abc"},
		{Unit: "system.slice/x.service"},
		{Exe: "./redis-server"},
		{Exe: "bin/redis-server"},
	} {
		if _, err := New(s); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}

func TestSelectEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sel, err := New(Spec{Host: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sel.Select(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestCgroups(t *testing.T) {
	const id = "3f2a9d0c5b7e41c8a6d2f19e8b4c7a5d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f7"
	for _, c := range []struct {
		cgroup, unit, container string
		want                    bool
	}{
		{"0::/system.slice/nginx.service\n", "nginx", "", true},
		{"0::/system.slice/nginx.service\n", "nginx.service", "", true},
		{"0::/system.slice/nginx.service\n", "ngin", "", false},
		{"0::/system.slice/nginx.service/worker\n", "nginx", "", true},
		{"12:cpu:/\n1:name=systemd:/system.slice/a@b.service\n", "a@b", "", true},
		{"12:cpu:/\n1:name=systemd:/system.slice/a@b.service\n", "a@b.service", "", true},
		{"0::/system.slice/my.app.service\n", "my.app.service", "", true},
		{"0::/docker/" + id + "\n", "", id[:12], true},
		{"0::/docker/" + id + "\n", "", id, true},
		{"0::/system.slice/docker-" + id + ".scope\n", "", id[:8], true},
		{"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope\n", "", id[:12], true},
		{"0::/machine.slice/libpod-" + id + ".scope/container\n", "", id[:12], true},
		{"0::/docker/" + id + "\n", "", id[1:13], false},
		{"0::/user.slice/" + id[:12] + "\n", "", id[:12], false},
		{"garbage\n", "x", "", false},
	} {
		got := c.unit != "" && inUnit(c.cgroup, c.unit) || c.container != "" && inContainer(c.cgroup, c.container)
		if got != c.want {
			t.Errorf("%q unit %q container %q: %v, want %v", c.cgroup, c.unit, c.container, got, c.want)
		}
	}
}
