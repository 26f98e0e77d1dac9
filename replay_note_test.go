package pie

import (
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/recording"
)

// What is said of unknown calls is something that can be done: memory is never
// recorded of a guard that calls functions or writes.
func TestReplayAdviceCanBeFollowed(t *testing.T) {
	for _, c := range []struct {
		caps []string
		says string
	}{
		{nil, "//pie:evidence memory"},
		{[]string{"rewrite"}, "//pie:evidence memory"},
		{[]string{"call"}, "--max-reject"},
		{[]string{"rewrite", "write"}, "--max-reject"},
	} {
		re := replayer{p: &Prepatch{Caps: c.caps}, in: &recording.Reader{Total: &recording.Total{}}, report: &ReplayReport{Unknown: 1}}
		notes := strings.Join(re.finish().Notes, "\n")
		if !strings.Contains(notes, c.says) {
			t.Errorf("capabilities %v: %q; want %q", c.caps, notes, c.says)
		}
	}
}
