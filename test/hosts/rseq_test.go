package hosts

import (
	"encoding/binary"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// A guard counts without a lock where every thread is the C library's. Where one is not,
// nothing is written to what its thread pointer leads to.
func TestThreadsOfTheProgramsOwn(t *testing.T) {
	for _, x := range []struct {
		name, file string
		args       []string
		unlocked   bool
	}{
		{"of the C library", "plain", []string{"", "2"}, true},
		{"of its own", "ownthread", nil, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			path := build(t, x.file, "gcc", "-pthread", x.file+".c", "guarded.c")
			h := start(t, nil, path, x.args...)
			p := guard(t, "HOST-1", exeOf(path))
			h.cycles(p, 3)
			h.insert(p)
			h.guarded()
			byCPU, locked := h.counted()
			if byCPU > 0 != x.unlocked || locked == 0 && !x.unlocked {
				t.Errorf("%d calls were counted by CPU, %d with a lock", byCPU, locked)
			}
			h.remove(p.ID)
			h.asItsFiles()
		})
	}
}

// counted are the calls that the host's guard has counted, in words of CPUs and with a lock.
func (h *host) counted() (byCPU, locked uint64) {
	h.t.Helper()
	p, err := tracee.Open(h.pid())
	if err != nil {
		h.t.Fatal(err)
	}
	defer p.Close()
	arenas, err := observe.Arenas(p)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, a := range arenas {
		for i := range a.Guards {
			if a.Guards[i].Function == "" {
				continue
			}
			at, _, size := a.Counters(i)
			b := make([]byte, size)
			if _, err := p.ReadAt(b, at); err != nil {
				h.t.Fatal(err)
			}
			const line = 8 // words, of which the last is for the lock
			for k := range jit.CallSlots {
				n := binary.LittleEndian.Uint64(b[8*k:])
				if k%line == line-1 {
					locked += n
				} else {
					byCPU += n
				}
			}
		}
	}
	return byCPU, locked
}
