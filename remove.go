package pie

import "context"

// AnyID selects every prepatch in a process.
const AnyID = ""

// Remove takes the prepatch id, or every one for AnyID, out of the selected
// processes and checks that their bytes are the file's again.
func Remove(ctx context.Context, id string, sel Select) (*Report, error) {
	return nil, errNotBuilt
}
