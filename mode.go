package pie

import (
	"context"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// SetMode changes what the prepatch id, or every one for AnyID, does in the
// selected processes. No thread is stopped.
func SetMode(ctx context.Context, id string, m Mode, sel Select) (*Report, error) {
	return modeChange(id, m).alone(ctx, sel)
}

func modeChange(id string, m Mode) change {
	do := func(ctx context.Context, t *tracee.Tracer, _ *process, w *tracee.Process, id string, out *ProcessReport) error {
		changed, err := insert.SetMode(ctx, t, w, id, modeWord(m))
		out.Changed = out.Changed || changed
		return err
	}
	return change{id: id, mode: m, do: do}
}

// Keep ends the trial of the prepatch id: it stays until it is removed.
func Keep(ctx context.Context, id string, sel Select) (*Report, error) {
	do := func(ctx context.Context, t *tracee.Tracer, _ *process, w *tracee.Process, id string, out *ProcessReport) error {
		changed, err := insert.Keep(ctx, t, w, id)
		out.Changed = out.Changed || changed
		return err
	}
	return change{id: id, do: do}.alone(ctx, sel)
}

func modeWord(m Mode) jit.Mode {
	switch m {
	case ModeEnforce:
		return jit.ModeEnforce
	case ModeAudit:
		return jit.ModeAudit
	}
	return jit.ModeOff
}

func modeName(m jit.Mode) Mode {
	switch m {
	case jit.ModeEnforce:
		return ModeEnforce
	case jit.ModeAudit:
		return ModeAudit
	}
	return ModeOff
}
