package observe

import (
	"encoding/binary"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// BlocksIn returns the blocks of state that prepatches have in a process. What it
// says of itself is a claim.
func BlocksIn(p Process, maps []proc.Mapping) []arena.Block {
	var found []arena.Block
	for _, m := range maps {
		shared, ok := isBlock(m)
		if !ok {
			continue
		}
		var header [arena.BlockHeader]byte
		if _, err := p.ReadAt(header[:], m.Start); err != nil {
			continue
		}
		if b, ok := arena.DecodeBlock(arena.Range{Start: m.Start, End: m.End}, shared, header[:]); ok {
			found = append(found, b)
		}
	}
	return found
}

// readCalls fills in what the state of prepatches that call functions tells of that.
func readCalls(p Process, maps []proc.Mapping, all []Prepatch) {
	calls := func(pp Prepatch) bool { return pp.Flags&arena.FlagCalls != 0 }
	if !slices.ContainsFunc(all, calls) {
		return
	}
	for _, b := range BlocksIn(p, maps) {
		i := slices.IndexFunc(all, func(pp Prepatch) bool { return calls(pp) && pp.Hash == b.Program })
		var words [16]byte
		if i < 0 || b.Size < bpf.InsideSize {
			continue
		}
		if _, err := p.ReadAt(words[:], b.At.Add(jit.Inside(uint32(b.Size)))); err == nil {
			all[i].Inside = binary.LittleEndian.Uint64(words[jit.InsideCount:])
			all[i].Nested = binary.LittleEndian.Uint64(words[jit.InsideNested:])
		}
	}
}

// isBlock reports whether a mapping could be a block of state: anonymous memory,
// read and written, and no larger than state can be.
func isBlock(m proc.Mapping) (shared, ok bool) {
	if m.Size() > uint64(arena.BlockSize(bpf.MaxState)) {
		return false, false
	}
	switch m.Perms {
	case proc.Read | proc.Write:
		return false, !m.HasFile() && m.Path == ""
	case proc.Read | proc.Write | proc.Shared:
		return true, m.Path == "/dev/zero" && m.Deleted // what the kernel calls shared anonymous memory
	}
	return false, false
}
