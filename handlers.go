package pie

import (
	"context"
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/insert"
)

// CheckHandlers asks processes whether PIE's signal handlers are still those that they
// have, where guards rely on them: nothing in /proc tells. It stops one thread of each for
// some ten microseconds, and notes in all what it finds. A process that cannot be
// asked is left as it is.
func CheckHandlers(ctx context.Context, all []ProcessStatus) error {
	e, err := NewEngine()
	if err != nil {
		return err
	}
	defer e.Close()
	e.CheckHandlers(ctx, all)
	return nil
}

// CheckHandlers is the function CheckHandlers.
func (e *Engine) CheckHandlers(ctx context.Context, all []ProcessStatus) {
	defer e.begin()()
	for i := range all {
		if s := &all[i]; s.Problem == "" && s.readsByTable() && ctx.Err() == nil {
			e.checkHandlers(ctx, s)
		}
	}
}

// readsByTable tells whether a guard in the process relies on signal handlers.
func (s *ProcessStatus) readsByTable() bool {
	for _, p := range s.Prepatches {
		for _, g := range p.Guards {
			if g.Intact && g.Faults == faultWords(jit.Table) {
				return true
			}
		}
	}
	return false
}

func (e *Engine) checkHandlers(ctx context.Context, s *ProcessStatus) {
	p, err := openProcess(s.Pid)
	if err != nil {
		return
	}
	defer p.close()
	w, err := p.attachable()
	if err != nil {
		return
	}
	defer w.Close()
	err = insert.HandlersStand(ctx, e.tracer, w)
	var replaced *insert.ReplacedHandlerError
	s.HandlersUnasked = err != nil && !errors.As(err, &replaced)
	if replaced != nil {
		s.ReadsAtRisk = true
		s.Problem = fmt.Sprintf("the program has put a handler for %s of its own in the place of PIE's: a guard that meets unreadable memory would end it; "+
			"remove the guard and insert it again, it will read by system calls", signalName(replaced.Signal))
	}
}
