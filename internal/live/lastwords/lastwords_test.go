package lastwords

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const asVictim = "LASTWORDS_TEST_VICTIM"

// A test process that is killed says which of its tests had not ended; one that ends by
// itself says nothing.
func TestKilledProcessSaysWhere(t *testing.T) {
	if how := os.Getenv(asVictim); how != "" {
		w := Start()
		t.Run("over", func(t *testing.T) { w.Begins(t) })
		t.Run("under way", func(t *testing.T) {
			w.Begins(t)
			if how == "killed" {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		})
		w.End()
		return
	}
	for how, want := range map[string]string{
		"killed": "the test process was killed during TestKilledProcessSaysWhere/under_way\n",
		"ends":   "",
	} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), asVictim+"="+how)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Run(); (err != nil) != (how == "killed") || said.String() != want {
			t.Errorf("%s: %v, and says %q instead of %q", how, err, said.String(), want)
		}
	}
}
