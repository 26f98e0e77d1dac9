// Package packaging_test holds what pie-agent.service must keep.
package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// filtering are the settings by which systemd installs a seccomp filter
// (systemd.exec(5), "SANDBOXING" and "SYSTEM CALL FILTERING").
var filtering = []string{
	"SystemCallFilter", "SystemCallLog", "SystemCallArchitectures", "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime",
	"RestrictSUIDSGID", "MemoryDenyWriteExecute", "LockPersonality", "PrivateDevices", "ProtectKernelModules", "ProtectKernelLogs",
	"ProtectClock", "ProtectHostname",
}

// settings are those of the unit.
func settings(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("pie-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			set[key] = value
		}
	}
	return set
}

// A tracer under a seccomp filter may not look at another process's filter: the
// agent could guard no service that has one.
func TestUnitHasNoSeccompFilter(t *testing.T) {
	set := settings(t)
	for key := range set {
		if slices.Contains(filtering, key) {
			t.Errorf("%s= installs a seccomp filter", key)
		}
	}
	for _, c := range []string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_NICE", "CAP_IPC_LOCK"} {
		if !slices.Contains(strings.Fields(set["CapabilityBoundingSet"]), c) {
			t.Errorf("the agent needs %s", c)
		}
	}
}

// systemd itself has nothing to say against the unit, and calls its exposure no worse
// than README.md says, in tenths.
func TestUnitIsUnderstood(t *testing.T) {
	const exposure = "71"
	b, err := os.ReadFile("pie-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	// pie need not be installed where the test runs.
	text := strings.ReplaceAll(string(b), "/usr/local/bin/pie", "/bin/true")
	unit := filepath.Join(t.TempDir(), "pie-agent.service")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", unit},
		{"security", "--offline=true", "--no-pager", "--threshold=" + exposure, unit},
	} {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s(scripts/setup installs what is missing)", args[0], err, out)
		}
	}
}
