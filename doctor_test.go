package pie

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// What a machine does with hardware breakpoints is said, with what follows for who
// runs the agent; it never stands in the way.
func TestBreakpointsFinding(t *testing.T) {
	refused := fmt.Errorf("no hardware breakpoint is to be had: perf_event_open: %w", unix.EACCES)
	for _, tt := range []struct {
		name    string
		err     error
		root    bool
		verdict string
		says    []string
	}{
		{"hit", nil, true, FindingOK, []string{"are hit"}},
		{"never hit", tracee.ErrNeverHit, true, FindingNote, []string{"never hit", "followed by system calls", "slower"}},
		{"never hit, a user", tracee.ErrNeverHit, false, FindingNote, []string{"never hit", "slower"}},
		{"not to be had", fmt.Errorf("perf_event_open: %w", unix.ENOSPC), true, FindingNote, []string{"perf_event_open", "slower"}},
		{"forbidden to root", refused, true, FindingNote, []string{"permission denied", "slower"}},
		{"forbidden to a user", refused, false, FindingNote, []string{"only root can tell"}},
	} {
		f := breakpointsFinding(tt.err, tt.root)
		if f.What != "breakpoints" || f.Verdict != tt.verdict || strings.Contains(f.Detail, "\n") {
			t.Errorf("%s: %+v", tt.name, f)
		}
		for _, s := range tt.says {
			if !strings.Contains(f.Detail, s) {
				t.Errorf("%s: %q does not say %q", tt.name, f.Detail, s)
			}
		}
	}
}

// Doctor and the agent say the same of this machine.
func TestDoctorTellsOfBreakpoints(t *testing.T) {
	d, err := Doctor(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	why := FollowedByCalls()
	for _, f := range d.Findings {
		if f.What != "breakpoints" {
			continue
		}
		if (f.Verdict == FindingOK) != (why == "") {
			t.Errorf("the agent would say %q; doctor: %+v", why, f)
		}
		return
	}
	t.Errorf("nothing about breakpoints: %+v", d.Findings)
}
