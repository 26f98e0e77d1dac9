package object

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// appendActions appends what runs when a guard cannot read memory, and when it
// ran too long.
func appendActions(u *bpf.Unit, g source.Guard) error {
	for _, a := range []struct {
		action source.Action
		at     *int
	}{{g.OnFault, &u.OnFault}, {g.OnFuel, &u.OnFuel}} {
		*a.at = len(u.Insns)
		text, err := action(a.action)
		if err != nil {
			return &Error{File: g.Pos.File, Msg: fmt.Sprintf("%s: %v", g.Name, err), Instead: "write the guard in Go"}
		}
		insns, err := bpf.Assemble(text)
		if err != nil {
			return err
		}
		for _, i := range insns {
			u.Insns = append(u.Insns, i)
			u.Pos = append(u.Pos, g.Pos)
		}
	}
	return nil
}

// action is an action in assembly: r1 is the frame.
func action(a source.Action) (string, error) {
	if a.Pass {
		return "mov %r0, 0\nexit\n", nil
	}
	text := ""
	store := func(offset int, v int64) {
		text += fmt.Sprintf("lddw %%r2, %#x\nstxdw [%%r1+%d], %%r2\n", uint64(v), offset)
	}
	verdict := bpf.Reject(1, 0)
	switch a.Kind {
	case source.ActionVoid:
		verdict = bpf.Reject(0, 0)
	case source.ActionValue:
		store(bpf.FrameResult, a.Value)
	case source.ActionNull:
		store(bpf.FrameResult, 0)
	case source.ActionErrno:
		store(bpf.FrameResult, a.Value)
		store(bpf.FrameErrno, int64(a.Errno))
		verdict = bpf.Reject(1, bpf.VerdictErrno)
	case source.ActionGo:
		if a.GoError != "" {
			return "", fmt.Errorf("a guard in C cannot return the Go error %s", a.GoError)
		}
		for k, w := range a.Words {
			store(bpf.FrameResult+8*k, w)
		}
		verdict = bpf.Reject(len(a.Words), 0)
	}
	return text + fmt.Sprintf("mov %%r0, %d\nexit\n", verdict), nil
}
