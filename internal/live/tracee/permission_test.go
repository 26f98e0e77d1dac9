package tracee

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Policies that this kernel may not have answer a seize as Yama does (EPERM), or as SELinux
// and AppArmor do (EACCES): it is said that one forbids it, and the process is as it was.
func TestAForbiddenSeizeIsSaidToBeForbidden(t *testing.T) {
	v := startVictim(t, "victim", "epoll", "2")
	p := v.open()
	defer p.Close()
	for name, run := range map[string]func(*Tracer) error{
		"attach": func(tr *Tracer) error { return tr.Attach(context.Background(), p, mapUnmap) },
		"world": func(tr *Tracer) error {
			_, err := tr.StopWorld(context.Background(), p, nil, func(*World) error { return nil })
			return err
		},
	} {
		for _, errno := range []unix.Errno{unix.EPERM, unix.EACCES} {
			tr := newTracer(t)
			tr.hand.refuse = func(request string, _ int) unix.Errno {
				if request == "seize" {
					return errno
				}
				return 0
			}
			err := run(tr)
			var forbidden *PermissionError
			if !errors.As(err, &forbidden) || forbidden.Advice == "" || forbidden.PID != v.pid() {
				t.Errorf("%s, %v: %v", name, errno, err)
			}
			v.mustProgress()
			tr.hand.refuse = nil
			if err := run(tr); err != nil {
				t.Errorf("%s, once it is allowed: %v", name, err)
			}
		}
	}
}
