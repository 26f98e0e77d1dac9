package insert

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// stateMade is what prepare has made for the prepatch's state.
type stateMade struct{ mapped bool }

// stateSteps lay out the prepatch's state: map its block and write the header, or
// empty the one that it had. A shared one that is there may be in use by another
// process, and goes on as it is.
func (in *insertion) stateSteps() ([]step, error) {
	b := in.pp.state
	if b == nil || b.Mapped && b.Shared || in.pp.again {
		return nil, nil
	}
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("a seed for the guards' hashes: %w", err)
	}
	header := step{write: block{at: b.At, bytes: b.Header(binary.LittleEndian.Uint64(seed[:]))}}
	if !b.Mapped {
		return []step{{block: b}, header}, nil
	}
	has := make([]byte, b.Size)
	if _, err := in.p.ReadAt(has, b.At); err != nil {
		return nil, fmt.Errorf("pid %d: state at %v: %w", in.p.Pid(), b.At, err)
	}
	out := []step{header}
	zero := make([]byte, pageSize)
	for off := 0; off < len(has); off += pageSize {
		from := 0
		if off == 0 {
			from = arena.BlockHeader
		}
		if !bytes.Equal(has[off+from:off+pageSize], zero[from:]) {
			out = append(out, step{write: block{at: b.At.Add(int64(off + from)), bytes: zero[from:]}})
		}
	}
	return out, nil
}

// mapState maps the block.
func (in *insertion) mapState(at *tracee.Attached, b *arena.Block) error {
	r := arena.Region{Range: b.Range(), Is: arena.HasState}
	if b.Shared {
		r.Is = arena.HasShared
	}
	if err := mmap(at, r); err != nil {
		return err
	}
	in.state.mapped = true
	return nil
}

// unmapState takes back what mapState did.
func (in *insertion) unmapState(at *tracee.Attached) error {
	if !in.state.mapped {
		return nil
	}
	if err := munmap(at, in.pp.state.Range()); err != nil {
		return err
	}
	in.state.mapped = false
	return nil
}

// Blocks returns the state that removed and inserted prepatches have in p.
func Blocks(p observe.Process) ([]arena.Block, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	return observe.BlocksIn(p, maps), nil
}
