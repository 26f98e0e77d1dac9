package observe

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// paddings returns where anchors say that arenas are, in bytes behind a process's
// segments (arena.Padding). Only processes under seccomp have any: of others the status is
// read, and no more. The ranges lie in private mappings of the kinds they are to have.
func paddings(p Process, maps []proc.Mapping) []arena.Padding {
	if s, ok := p.(interface{ Status() (proc.Status, error) }); ok {
		if st, err := s.Status(); err != nil || st.Seccomp == 0 {
			return nil
		}
	}
	var found []arena.Padding
	for _, m := range maps {
		if m.Perms != proc.Read|proc.Exec || !m.HasFile() {
			continue
		}
		var b [arena.AnchorSize]byte
		if _, err := p.ReadAt(b[:], m.End-arena.AnchorSize); err != nil {
			continue
		}
		l, ok := arena.DecodeAnchor(m.End, b[:])
		if ok && m.Start <= l.Code.Start && slices.ContainsFunc(maps, func(m proc.Mapping) bool {
			return m.Perms == proc.Read|proc.Write && m.Start <= l.State.Start && l.State.End <= m.End
		}) {
			found = append(found, l)
		}
	}
	return found
}

// readPadding reads the arena in l. One that a pie was killed over before it wrote the
// header, or after it cleared it, is arena.ErrNotArena; it has no code then, as code is
// written last and cleared first.
func readPadding(p Process, l arena.Padding) (*arena.Arena, error) {
	b := make([]byte, l.State.End-l.State.Start)
	code := make([]byte, l.Code.End-l.Code.Start)
	if _, err := p.ReadAt(b, l.State.Start); err != nil {
		return nil, fmt.Errorf("state at %v: %w", l.State.Start, err)
	}
	if _, err := p.ReadAt(code, l.Code.Start); err != nil {
		return nil, fmt.Errorf("code at %v: %w", l.Code.Start, err)
	}
	a, err := arena.Decode(l.State.Start, b)
	if errors.Is(err, arena.ErrNotArena) && !bytes.Equal(code, make([]byte, len(code))) {
		return nil, &arena.CorruptError{Base: l.Code.Start, Msg: fmt.Sprintf("its records, at %v, were overwritten", l.State.Start)}
	}
	if err != nil {
		return nil, err
	}
	if has, ok := a.Padding(); !ok || has != l {
		return nil, &arena.CorruptError{Base: a.Base, Msg: fmt.Sprintf("the anchor behind the code at %v leads to it", l.Code.Start)}
	}
	a.Mapped = arena.HasAll
	return a, nil
}

// unusedPaddings are those that no prepatch uses: without an arena, or with an empty one.
// They are to be cleared.
func unusedPaddings(p Process, maps []proc.Mapping, arenas []*arena.Arena) []arena.Padding {
	return slices.DeleteFunc(paddings(p, maps), func(l arena.Padding) bool {
		return slices.ContainsFunc(arenas, func(a *arena.Arena) bool {
			has, ok := a.Padding()
			return ok && has == l && !a.Empty()
		})
	})
}
