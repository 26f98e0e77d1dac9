package insert

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// ErrNoRseq says that guards were to count with the struct rseq that every thread has
// (jit.RseqArea), and that one has none there: a guard that it called would write to what
// is not PIE's. Nothing was changed; plan without it.
var ErrNoRseq = errors.New("a thread has no restartable sequences where the C library says that all have them")

// rseq is what the guards count with.
func (in *insertion) rseq() jit.RseqArea {
	for _, g := range in.pp.guards {
		if g.Code.Rseq.Known {
			return g.Code.Rseq
		}
	}
	return jit.RseqArea{}
}

// askRseq asks the kernel for one thread what the signature is that it compares: for a
// guard with another it would end the process. That all threads have a struct rseq, the
// commit looks at.
func (in *insertion) askRseq(at *tracee.Attached) error {
	if !at.HasRseq(in.rseq().Offset, jit.RseqSignature) {
		return fmt.Errorf("pid %d: thread %d: %w", in.p.Pid(), at.Thread(), ErrNoRseq)
	}
	return nil
}
