package target

import (
	"fmt"
	"slices"
	"strings"
)

// MinContainer is how many digits of a container's id are needed.
const MinContainer = 8

// unitSuffixes are the kinds of unit that hold processes (systemd.unit(5)).
var unitSuffixes = []string{"service", "scope", "slice", "socket", "mount", "swap"}

// inUnit tells whether the text of /proc/PID/cgroup (cgroups(7)) places the
// process in a systemd unit. A unit is a component of the path, in systemd's own
// hierarchy (v2, or name=systemd in v1).
func inUnit(cgroup, unit string) bool {
	if !slices.Contains(unitSuffixes, unit[strings.LastIndexByte(unit, '.')+1:]) {
		unit += ".service"
	}
	for path := range paths(cgroup) {
		for part := range strings.SplitSeq(path, "/") {
			if unescape(part) == unit {
				return true
			}
		}
	}
	return false
}

// unescape takes off the underscore systemd puts before a name that the kernel
// uses itself.
func unescape(part string) string { return strings.TrimPrefix(part, "_") }

// inContainer tells whether a cgroup belongs to a container: a component of the
// path is the id, alone (Docker with cgroupfs) or as NAME-ID.scope (systemd).
func inContainer(cgroup, id string) bool {
	for path := range paths(cgroup) {
		for part := range strings.SplitSeq(path, "/") {
			part = strings.TrimSuffix(part, ".scope")
			if i := strings.LastIndexByte(part, '-'); i >= 0 {
				part = part[i+1:]
			}
			if isID(part) && strings.HasPrefix(part, id) {
				return true
			}
		}
	}
	return false
}

// paths yields the path of each line "HIERARCHY:CONTROLLERS:PATH".
func paths(cgroup string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.Lines(cgroup) {
			fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
			if len(fields) == 3 && !yield(fields[2]) {
				return
			}
		}
	}
}

// isID tells whether a name is a full container id: 64 hexadecimal digits, or
// 32 in some runtimes.
func isID(s string) bool { return (len(s) == 64 || len(s) == 32) && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func checkContainer(id string) error {
	if len(id) < MinContainer || !isHex(id) {
		return fmt.Errorf("container %q: give at least %d digits of its id, as the container runtime prints it", id, MinContainer)
	}
	return nil
}
