package plan

import (
	"encoding/binary"
	"sync"
)

// Entrances keeps what was found when a segment was searched, as every byte of it must be
// looked at: the processes of a program have the same. The zero value has found nothing
// yet; it is for one segment, and safe for concurrent use.
type Entrances struct {
	mu    sync.Mutex
	found map[searched][]entrance
}

// searched is for what a segment was searched, in bytes from its start: rel32 branches to
// [lo, lo+width) that are not from [lo, end), the function's own.
type searched struct {
	lo, width, end int64
}

// entrance is what looks like a rel32 branch: where it ends and where it goes to, in bytes
// from the start of the segment.
type entrance struct{ from, to int64 }

const (
	// maxEntrances bounds what is looked for; real code has one or none.
	maxEntrances = 64
	// maxSearches bounds what is kept.
	maxSearches = 4096
)

// search is searchBranches, done once; nil keeps nothing.
func (e *Entrances) search(segment []byte, r searched) []entrance {
	if e == nil {
		return searchBranches(segment, r)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	found, ok := e.found[r]
	if !ok {
		found = searchBranches(segment, r)
		if e.found == nil || len(e.found) >= maxSearches {
			e.found = map[searched][]entrance{}
		}
		e.found[r] = found
	}
	return found
}

// searchBranches takes every byte of the segment for the start of a displacement, so that data
// can only cause a refusal. It returns the first maxEntrances.
func searchBranches(segment []byte, r searched) (found []entrance) {
	width := uint32(r.width)
	base := -uint32(r.lo) // modulo 2^32, as displacements are
	for n := 1; n+4 <= len(segment) && len(found) < maxEntrances; n++ {
		// A displacement at n is from n+4.
		displacement := binary.LittleEndian.Uint32(segment[n:])
		if displacement+uint32(n+4)+base >= width || !endsBranch(segment[:n]) {
			continue
		}
		to := int64(n) + 4 + int64(int32(displacement))
		if to < r.lo || to >= r.lo+r.width || int64(n) >= r.lo && int64(n) < r.end {
			continue
		}
		found = append(found, entrance{int64(n), to})
	}
	return found
}

// endsBranch reports whether code may end in the opcode of a rel32 branch:
// call, jmp, jcc.
func endsBranch(code []byte) bool {
	n := len(code)
	switch op := code[n-1]; {
	case op == 0xe8, op == 0xe9:
		return true
	case op >= 0x80 && op <= 0x8f:
		return n > 1 && code[n-2] == 0x0f
	}
	return false
}
