package observe

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Process is what is read of a process: *proc.Process or *tracee.Process.
type Process interface {
	Pid() int
	Maps() ([]proc.Mapping, error)
	ReadAt(b []byte, a address.Addr) (int, error)
}

// maxState bounds the mappings that are looked at for an arena's magic. A state
// region stands between two of other kinds, so no neighbour is merged with it.
const maxState = 1 << 20

// Arenas returns the arenas of a process. Those that cannot be read come as
// *arena.CorruptError in the joined error, beside the ones that can.
func Arenas(p Process) ([]*arena.Arena, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	return ArenasIn(p, maps)
}

// ArenasIn is Arenas for mappings that were read already.
func ArenasIn(p Process, maps []proc.Mapping) ([]*arena.Arena, error) {
	var found []*arena.Arena
	var bad error
	for i, m := range maps {
		if !isState(m) || m.Size() != arena.StateSize && (i == 0 || !isCode(maps[i-1], m.Start)) {
			continue
		}
		a, err := readArena(p, m, maps)
		switch {
		case err == nil:
			found = append(found, a)
		case !errors.Is(err, arena.ErrNotArena):
			bad = errors.Join(bad, fmt.Errorf("pid %d: %w", p.Pid(), err))
		}
	}
	for _, l := range paddings(p, maps) {
		a, err := readPadding(p, l)
		switch {
		case err == nil:
			found = append(found, a)
		case !errors.Is(err, arena.ErrNotArena):
			bad = errors.Join(bad, fmt.Errorf("pid %d: %w", p.Pid(), err))
		}
	}
	return found, bad
}

// isState reports whether a mapping could be a state region: private anonymous
// memory, read and written, never executed.
func isState(m proc.Mapping) bool {
	return m.Perms == proc.Read|proc.Write && !m.HasFile() && m.Path == "" && m.Size() <= maxState
}

// isCode reports whether a mapping could be the code region below a state region
// at end. An unfinished arena, which lacks it, is recognised by the size of its
// state.
func isCode(m proc.Mapping, end address.Addr) bool {
	return m.Perms == proc.Read|proc.Exec && !m.HasFile() && m.End == end
}

func readArena(p Process, m proc.Mapping, maps []proc.Mapping) (*arena.Arena, error) {
	var magic [8]byte
	if _, err := p.ReadAt(magic[:], m.Start); err != nil || !arena.HasMagic(magic[:]) {
		return nil, arena.ErrNotArena
	}
	b := make([]byte, m.Size())
	if _, err := p.ReadAt(b, m.Start); err != nil {
		return nil, fmt.Errorf("state region at %v: %w", m.Start, err)
	}
	a, err := arena.Decode(m.Start, b)
	if err != nil {
		return nil, err
	}
	if _, padded := a.Padding(); padded {
		return nil, &arena.CorruptError{Base: a.Base, Msg: "its header is that of one in padding, and it has mappings"}
	}
	a.Mapped = arena.HasState
	for _, other := range maps {
		a.Mapped |= regionOf(a, other)
	}
	return a, nil
}

// regionOf says which region of a lies in the mapping m, which the kernel may
// have merged with a neighbour's of the same kind. One whose protection was
// changed is none.
func regionOf(a *arena.Arena, m proc.Mapping) arena.Regions {
	holds := func(r arena.Range) bool { return m.Start <= r.Start && r.End <= m.End }
	switch {
	case holds(a.Code()) && m.Perms == proc.Read|proc.Exec && !m.HasFile():
		return arena.HasCode
	case holds(a.Shared()) && m.Perms == proc.Read|proc.Write|proc.Shared:
		return arena.HasShared
	}
	return 0
}
