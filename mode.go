package pie

import "context"

// SetMode changes what the prepatch id, or every one for AnyID, does in the
// selected processes. No thread is stopped.
func SetMode(ctx context.Context, id string, m Mode, sel Select) (*Report, error) {
	return nil, errNotBuilt
}

// Keep ends the trial of the prepatch id: it stays until it is removed.
func Keep(ctx context.Context, id string, sel Select) (*Report, error) {
	return nil, errNotBuilt
}
