// Package packaging_test holds what pie-agent.service must keep.
package packaging_test

import (
	"os"
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

// A tracer under a seccomp filter may not look at another process's filter: the
// agent could guard no service that has one.
func TestUnitHasNoSeccompFilter(t *testing.T) {
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
	for key := range set {
		if slices.Contains(filtering, key) {
			t.Errorf("%s= installs a seccomp filter", key)
		}
	}
	for _, c := range []string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_KILL", "CAP_SYS_NICE", "CAP_IPC_LOCK"} {
		if !slices.Contains(strings.Fields(set["CapabilityBoundingSet"]), c) {
			t.Errorf("the agent needs %s", c)
		}
	}
}
