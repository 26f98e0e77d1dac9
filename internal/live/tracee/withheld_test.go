package tracee

import (
	"context"
	"testing"
	"time"
)

// A thread whose stack has pages that nobody gives to who asks for them: they are not
// asked for while the world stands still.
func TestStackThatIsWithheld(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "situation", "withheld")
	v.mustProgress()
	p := v.open()
	defer p.Close()
	stack := make([]byte, 32<<10)
	var contents [2]int
	stop, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error {
		for _, th := range w.Threads() {
			if th.Tid == p.Pid() {
				continue
			}
			w.ReadUp(stack, th.SP)
			for i, b := range stack {
				if b != 0 {
					contents[i/(len(stack)/2)]++ // below the hole, or above it
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if contents[0] == 0 || contents[1] == 0 || stop.Window > 300*time.Millisecond {
		t.Errorf("read %d bytes that are not zero below the hole, %d above; stopped for %v", contents[0], contents[1], stop.Window)
	}
	v.mustProgress()
}
