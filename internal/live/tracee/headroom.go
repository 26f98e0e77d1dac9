package tracee

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// NoLimit is a headroom without a limit.
const NoLimit uint64 = math.MaxUint64

// Headroom says how much more memory a process may have. Pages written from
// outside are charged to its cgroup: at the limit, the kernel kills the target
// and not the writer.
type Headroom struct {
	Cgroup       uint64 // bytes below the tightest limit on the way to the root
	AddressSpace uint64 // bytes below RLIMIT_AS
	// LocksFuture: signs of mlockall(MCL_FUTURE), which populates a new mapping
	// at once and fails it beyond RLIMIT_MEMLOCK.
	LocksFuture bool
	// Mappings is how many more mappings there may be, at least (vm.max_map_count).
	Mappings uint64
}

// Headroom reads cgroup v1 and v2, RLIMIT_AS, vm.max_map_count and the locked state. What
// cannot be read counts as no limit: a cgroup outside our cgroup namespace.
func (p *Process) Headroom() (Headroom, error) {
	h := Headroom{Cgroup: NoLimit, AddressSpace: NoLimit, Mappings: NoLimit}
	text, err := p.StatusText()
	if err != nil {
		return h, err
	}
	size, locked := kilobytes(text, "VmSize"), kilobytes(text, "VmLck")
	h.LocksFuture = locked > 0 && locked >= size/2
	var limit unix.Rlimit
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_AS, nil, &limit); err == nil && limit.Cur != unix.RLIM_INFINITY {
		h.AddressSpace = below(limit.Cur, size<<10)
	}
	if h.Mappings, err = p.mappingsLeft(size << 10 / pageSize); err != nil {
		return h, err
	}
	groups, err := p.cgroups()
	if err != nil {
		return h, err
	}
	for _, g := range groups {
		h.Cgroup = min(h.Cgroup, g.memoryLeft())
	}
	return h, nil
}

// countedMappings is how few may be left before mappings are counted: a long list takes time.
const countedMappings = 1000

// mappingsLeft is Headroom.Mappings of a process that has so many pages of address space,
// and so no more mappings than that.
func (p *Process) mappingsLeft(pages uint64) (uint64, error) {
	limit, ok := number("/proc/sys/vm/max_map_count")
	if !ok {
		return NoLimit, nil
	}
	if left := below(limit, pages); left >= countedMappings {
		return left, nil
	}
	maps, err := p.Maps()
	return below(limit, uint64(len(maps))), err
}

// below returns limit−used, 0 when more is used.
func below(limit, used uint64) uint64 {
	if used > limit {
		return 0
	}
	return limit - used
}

// kilobytes finds "KEY:  N kB" in the text of /proc/PID/status; 0 if absent.
func kilobytes(text []byte, key string) uint64 {
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == key {
			n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return n
		}
	}
	return 0
}

// cgroup is one directory of a cgroup hierarchy that may limit the process.
type cgroup struct {
	mount, path string
	unified     bool
	controllers string // v1: comma-separated
}

// cgroups lists the process's cgroups from /proc/PID/cgroup, "ID:CONTROLLERS:PATH",
// under the mount points of /proc/self/mountinfo.
func (p *Process) cgroups() ([]cgroup, error) {
	text, err := p.readat("cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := p.host.cgroups.get()
	if err != nil {
		return nil, err
	}
	var list []cgroup
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || strings.Contains(f[2], "/..") {
			continue // "/.." : outside our cgroup namespace
		}
		for _, m := range mounts {
			if m.matches(f[1]) {
				list = append(list, cgroup{mount: m.dir, path: f[2], unified: f[1] == "", controllers: f[1]})
				break
			}
		}
	}
	return list, nil
}

// cgroupMount is a mounted hierarchy; options name v1's controllers.
type cgroupMount struct {
	dir     string
	unified bool
	options string
}

func (m cgroupMount) matches(controllers string) bool {
	if controllers == "" || m.unified {
		return m.unified == (controllers == "")
	}
	first, _, _ := strings.Cut(controllers, ",")
	return hasWord(m.options, first)
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// cgroupMounts reads proc_pid_mountinfo(5): mount point is field 5; after a
// field "-" come type, source and the superblock's options.
func cgroupMounts() ([]cgroupMount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []cgroupMount
	for s := bufio.NewScanner(f); s.Scan(); {
		front, back, ok := strings.Cut(s.Text(), " - ")
		a, b := strings.Fields(front), strings.Fields(back)
		if !ok || len(a) < 5 || len(b) < 3 || !strings.HasPrefix(b[0], "cgroup") {
			continue
		}
		list = append(list, cgroupMount{dir: a[4], unified: b[0] == "cgroup2", options: b[2]})
	}
	return list, nil
}

// memoryLeft walks from the process's cgroup to the root.
func (g cgroup) memoryLeft() uint64 {
	limitFile, usedFile := "memory.max", "memory.current"
	if !g.unified {
		if !hasWord(g.controllers, "memory") {
			return NoLimit
		}
		limitFile, usedFile = "memory.limit_in_bytes", "memory.usage_in_bytes"
	}
	left := NoLimit
	for path := filepath.Clean("/" + g.path); ; path = filepath.Dir(path) {
		dir := filepath.Join(g.mount, path)
		const v1NoLimit = math.MaxInt64 &^ 0xfff // PAGE_COUNTER_MAX pages
		if limit, ok := number(filepath.Join(dir, limitFile)); ok && limit < v1NoLimit {
			if used, ok := number(filepath.Join(dir, usedFile)); ok {
				left = min(left, below(limit, used))
			}
		}
		if path == "/" {
			return left
		}
	}
}

// number reads a file that holds one decimal number; not ok for "max".
func number(path string) (uint64, bool) {
	var b [32]byte
	text, err := readText(path, b[:])
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// readText reads the beginning of a file of the kernel's into b. It does not wait for
// it as os.ReadFile does, by way of epoll(7), where the kernel can tell of its changes.
func readText(path string, b []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, b)
		if !errors.Is(err, unix.EINTR) {
			return b[:max(n, 0)], err
		}
	}
}

// Frozen tells whether a cgroup of the process is frozen, so that no thread of it will stop: "frozen 1" in v2's
// cgroup.events, FROZEN or FREEZING in v1's freezer.state.
func (p *Process) Frozen() bool {
	groups, err := p.cgroups()
	if err != nil {
		return false
	}
	for _, g := range groups {
		name, want := "freezer.state", "FR"
		switch {
		case g.unified:
			name, want = "cgroup.events", "frozen 1"
		case !hasWord(g.controllers, "freezer"):
			continue
		}
		var b [256]byte
		text, err := readText(filepath.Join(g.mount, filepath.Clean("/"+g.path), name), b[:])
		if err == nil && strings.Contains(string(text), want) {
			return true
		}
	}
	return false
}

// String prints the headroom for doctor.
func (h Headroom) String() string {
	amount := func(n uint64) string {
		if n == NoLimit {
			return "no limit"
		}
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("cgroup %s, address space %s, %d mappings", amount(h.Cgroup), amount(h.AddressSpace), h.Mappings)
}
