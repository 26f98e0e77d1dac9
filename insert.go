package pie

import (
	"context"
	"errors"
)

var errNotBuilt = errors.New("not built yet")

// Insert puts a prepatch into the selected processes, parents first, and
// selects again until no unguarded process appears. A process that has it
// already is left alone. The error is a *Refusal when nothing was changed
// anywhere; a Report with some processes unguarded comes without error.
func Insert(ctx context.Context, p *Prepatch, sel Select, o Options) (*Report, error) {
	return nil, errNotBuilt
}
