package hosts

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// memoryGroup is a cgroup of the test's own with a memory limit, of either version.
type memoryGroup struct {
	t                   testing.TB
	dir, limit, current string
}

func newMemoryGroup(t testing.TB) *memoryGroup {
	t.Helper()
	name := fmt.Sprintf("pie-hosts-%d", os.Getpid())
	for _, g := range []*memoryGroup{
		{t, "/sys/fs/cgroup/memory/" + name, "memory.limit_in_bytes", "memory.usage_in_bytes"},
		{t, "/sys/fs/cgroup/" + name, "memory.max", "memory.current"},
		{t, "/sys/fs/cgroup/unified/" + name, "memory.max", "memory.current"},
	} {
		_ = os.WriteFile(filepath.Join(filepath.Dir(g.dir), "cgroup.subtree_control"), []byte("+memory"), 0)
		if os.Mkdir(g.dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			for range 100 { // until its last process has been reaped
				if os.Remove(g.dir) == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
		if _, err := os.Stat(filepath.Join(g.dir, g.limit)); err == nil {
			return g
		}
	}
	t.Fatal("no cgroup with a memory limit can be made: the test runs as root with the memory controller mounted")
	return nil
}

func (g *memoryGroup) write(file string, n int) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.Itoa(n)), 0); err != nil {
		g.t.Fatal(err)
	}
}

func (g *memoryGroup) used() int {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, g.current))
	if err != nil {
		g.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

// settled is what is used when the process's threads have been everywhere that they go: at
// its limit a process is ended for a page of its own, too.
func (g *memoryGroup) settled() int {
	g.t.Helper()
	const still = 20 // looks in a row at the same
	for n, same, end := g.used(), 0, time.Now().Add(20*time.Second); ; time.Sleep(10 * time.Millisecond) {
		now := g.used()
		if same++; now != n {
			n, same = now, 0
		}
		if same == still {
			return n
		}
		if time.Now().After(end) {
			g.t.Fatalf("memory in use does not come to rest: %d, then %d bytes", n, now)
		}
	}
}

// What PIE writes is charged to the target: one at its limit would be killed for it,
// and is refused; with some room it is guarded.
func TestMemoryLimit(t *testing.T) {
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	g := newMemoryGroup(t)
	h := start(t, nil, path, "", "2")
	g.write("cgroup.procs", h.pid())
	g.write(g.limit, g.settled()+32<<10)
	h.refused(p, pie.CodeHeadroom)
	g.write(g.limit, g.used()+8<<20)
	h.cycles(p, 2)
}

// A process that has nearly as many mappings as it may have keeps the last for itself.
func TestMappingsLimit(t *testing.T) {
	path := build(t, "mapped", "gcc", "mapped.c", "guarded.c")
	start(t, nil, path, "20").refused(guard(t, "HOST-1", exeOf(path)), pie.CodeHeadroom)
}
