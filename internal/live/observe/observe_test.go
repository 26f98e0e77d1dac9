package observe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/clock"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// memory is a process made of byte slices.
type memory struct {
	maps  []proc.Mapping
	bytes map[address.Addr][]byte // by start of the mapping
}

func (m *memory) Pid() int                      { return 4711 }
func (m *memory) Maps() ([]proc.Mapping, error) { return m.maps, nil }

func (m *memory) ReadAt(b []byte, a address.Addr) (int, error) {
	for start, has := range m.bytes {
		if a >= start && a < start.Add(int64(len(has))) {
			if n := copy(b, has[a-start:]); n < len(b) {
				return n, io.ErrUnexpectedEOF
			}
			return len(b), nil
		}
	}
	return 0, io.EOF
}

func (m *memory) add(r arena.Range, perms proc.Perms, file proc.FileID, b []byte) {
	m.maps = append(m.maps, proc.Mapping{Start: r.Start, End: r.End, Perms: perms, File: file})
	has := make([]byte, r.End-r.Start)
	copy(has, b)
	m.bytes[r.Start] = has
}

const (
	base = address.Addr(0x7f00_0000_0000)
	text = base + 1<<20
)

var original = []byte{0x55, 0x48, 0x89, 0xe5, 0x90}

// guarded is a process with one guard in.
func guarded(t testing.TB) (*memory, *arena.Arena, arena.Place) {
	t.Helper()
	a := arena.New(base, arena.Info{Build: "b", TSCHz: 1e9, TSC: clock.Read(), Created: time.Now()})
	pl, err := a.Allot(arena.Need{Guard: "G", Site: text, Site0: original})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Fit(pl, 100); err != nil {
		t.Fatal(err)
	}
	patch, err := jit.Jump(text, pl.Code, len(original))
	if err != nil {
		t.Fatal(err)
	}
	a.Prepatches[2] = arena.Prepatch{State: arena.In, ID: "CVE-1", Guards: 1}
	g := &a.Guards[pl.Index]
	g.State, g.Prepatch, g.Function = arena.In, 2, "f"
	g.Image = arena.Image{Name: "libf.so", Inode: 7}
	g.Original, g.Patch, g.Body, g.Link = original, patch, 4, 64
	g.Base = arena.Counts{Calls: 5}
	binary.LittleEndian.PutUint32(a.Controls[pl.Index][jit.ControlMode:], uint32(jit.ModeEnforce))
	m := &memory{bytes: map[address.Addr][]byte{}}
	m.add(a.Code(), proc.Read|proc.Exec, proc.FileID{}, nil)
	m.add(a.State(), proc.Read|proc.Write, proc.FileID{}, a.Encode())
	m.add(a.Shared(), proc.Read|proc.Write|proc.Shared, proc.FileID{Minor: 1, Inode: 99}, nil)
	m.add(arena.Range{Start: text, End: text + 4096}, proc.Read|proc.Exec, proc.FileID{Minor: 2, Inode: 7}, g.Patch)
	m.link(t, a, pl.Index, 0)
	m.word(pl.Counters+jit.CounterCalls, 7)
	m.word(pl.Counters+jit.CounterCalls+8*(jit.CallSlots-1), 3)
	return m, a, pl
}

func (m *memory) put(at address.Addr, b ...byte) {
	for start, has := range m.bytes {
		if at >= start && at < start.Add(int64(len(has))) {
			copy(has[at-start:], b)
		}
	}
}

func (m *memory) word(at address.Addr, v uint64) {
	m.put(at, binary.LittleEndian.AppendUint64(nil, v)...)
}

// link writes guard i's link to to.
func (m *memory) link(t testing.TB, a *arena.Arena, i int, to address.Addr) {
	t.Helper()
	b, err := jit.Link(a.Link(i), to)
	if err != nil {
		t.Fatal(err)
	}
	m.put(a.Link(i), b...)
}

// A chain is read from the bytes alone: through links, not by the records' order;
// one that has no end, or leads out of the guards, is told apart from one that ends.
func TestChain(t *testing.T) {
	m, a, first := guarded(t)
	add := func() int {
		t.Helper()
		pl, err := a.Allot(arena.Need{Program: [32]byte{byte(len(a.GuardsAt(text)))}, Guard: "H", Site: text, Site0: original})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Fit(pl, 100); err != nil {
			t.Fatal(err)
		}
		g := &a.Guards[pl.Index]
		g.Original, g.Body, g.Link = original, 4, 72
		m.link(t, a, pl.Index, 0)
		return pl.Index
	}
	second, third := add(), add()
	site := m.bytes[text][:len(original)]
	expect := func(what string, broken bool, want ...int) {
		t.Helper()
		got, err := Chain(m, a, text, site)
		var corrupt *arena.CorruptError
		if !slices.Equal(got, want) || errors.As(err, &corrupt) != broken {
			t.Errorf("%s: guards %v, %v; want %v", what, got, err, want)
		}
	}
	expect("one", false, first.Index)
	m.link(t, a, first.Index, a.Body(third))
	expect("two", false, first.Index, third)
	m.link(t, a, third, a.Body(second))
	expect("three", false, first.Index, third, second)
	m.link(t, a, second, a.Body(third))
	expect("a circle", true, first.Index, third, second)
	m.link(t, a, third, a.Start(second))
	expect("ahead of a guard's body", true, first.Index, third)
	m.word(a.Link(first.Index), 1)
	expect("no link", true, first.Index)
	copy(site, original)
	expect("no jump", false)
}

func TestStatusBelievesTheSiteAlone(t *testing.T) {
	tests := []struct {
		name  string
		edit  func(m *memory, a *arena.Arena, pl arena.Place)
		state State
		site  SiteState
	}{
		{"in", func(*memory, *arena.Arena, arena.Place) {}, StateIn, SiteIn},
		{"recorded as in, but the bytes are the file's", func(m *memory, _ *arena.Arena, _ arena.Place) {
			m.put(text, original...)
		}, StateLost, SiteOut},
		{"recorded as prepared, and the bytes are the file's", func(m *memory, a *arena.Arena, pl arena.Place) {
			a.Guards[pl.Index].State = arena.Prepared
			m.put(a.State().Start, a.Encode()...)
			m.put(text, original...)
		}, StatePrepared, SiteOut},
		{"the guard recorded as in, ahead of its prepatch and of the bytes: a pie was killed", func(m *memory, a *arena.Arena, pl arena.Place) {
			a.Prepatches[a.Guards[pl.Index].Prepatch].State = arena.Prepared
			m.put(a.State().Start, a.Encode()...)
			m.put(text, original...)
		}, StatePrepared, SiteOut},
		{"recorded as prepared, but patched", func(m *memory, a *arena.Arena, pl arena.Place) {
			a.Guards[pl.Index].State = arena.Prepared
			m.put(a.State().Start, a.Encode()...)
		}, StateIn, SiteIn},
		{"patched, but the jump leads elsewhere", func(m *memory, _ *arena.Arena, pl arena.Place) {
			b, _ := jit.Jump(text, pl.Code+8, len(original))
			m.put(text, b...)
		}, StateAltered, SiteAltered},
		{"patched, and the link is overwritten", func(m *memory, a *arena.Arena, pl arena.Place) {
			m.word(a.Link(pl.Index), 0)
		}, StateIn, SiteIn},
		{"a breakpoint on the patch", func(m *memory, _ *arena.Arena, _ arena.Place) { m.put(text, 0xcc) }, StateAltered, SiteAltered},
		{"the library is gone", func(m *memory, _ *arena.Arena, _ arena.Place) { delete(m.bytes, text) }, StateLost, SiteGone},
		{"another library is where it was", func(m *memory, _ *arena.Arena, _ arena.Place) {
			m.put(text, make([]byte, len(original))...)
			m.maps = slices.DeleteFunc(m.maps, func(x proc.Mapping) bool { return x.Contains(text) })
		}, StateLost, SiteGone},
		{"more guards announced than recorded", func(m *memory, a *arena.Arena, _ arena.Place) {
			a.Prepatches[2].Guards = 2
			m.put(a.State().Start, a.Encode()...)
		}, StatePartial, SiteIn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, a, pl := guarded(t)
			tt.edit(m, a, pl)
			all, err := Status(m)
			if err != nil || len(all) != 1 || len(all[0].Guards) != 1 {
				t.Fatalf("%+v, %v", all, err)
			}
			g := all[0].Guards[0]
			if all[0].State != tt.state || g.SiteState != tt.site {
				t.Errorf("state %v, site %v; want %v, %v", all[0].State, g.SiteState, tt.state, tt.site)
			}
			if g.Counts.Calls != 5 || g.Mode != jit.ModeEnforce || all[0].Counters.File.Inode != 99 {
				t.Errorf("%+v", all[0])
			}
		})
	}
}

// event writes a published event with ticket n.
func (m *memory) event(a *arena.Arena, n uint64, code uint32) {
	at, head, slots, size := a.Ring()
	b := make([]byte, size)
	le := binary.LittleEndian
	le.PutUint64(b[jit.EventSeq:], n+1)
	le.PutUint64(b[jit.EventTSC:], clock.Read())
	le.PutUint32(b[jit.EventKind:], uint32(jit.KindReject))
	le.PutUint32(b[jit.EventCode:], code)
	m.put(at.Add(int64(head)+int64(n%uint64(slots))*int64(size)), b...)
}

func (m *memory) head(a *arena.Arena, n uint64) {
	at, _, _, _ := a.Ring()
	m.word(at, n)
}

func TestEventsAreReadOnceAndLossIsCounted(t *testing.T) {
	m, a, _ := guarded(t)
	c := Cursor{}
	read := func(want int, wantLost uint64) []Event {
		t.Helper()
		got, lost, err := Events(m, c)
		if err != nil || len(got) != want || lost != wantLost {
			t.Fatalf("%d events, %d lost, %v; want %d, %d", len(got), lost, err, want, wantLost)
		}
		return got
	}
	read(0, 0)
	for n := range uint64(3) {
		m.event(a, n, uint32(n))
	}
	m.head(a, 3)
	got := read(3, 0)
	if e := got[2]; e.Code != 2 || e.ID != "CVE-1" || e.Function != "f" || time.Since(e.Time).Abs() > time.Minute {
		t.Errorf("%+v", e)
	}
	read(0, 0)
	// A writer that died: its ticket is lost, later ones are not.
	m.event(a, 4, 4)
	m.head(a, 5)
	read(1, 1)
	// More events than the ring has slots.
	for n := uint64(5); n < 5+3*jit.EventSlots; n++ {
		m.event(a, n, 0)
	}
	m.head(a, 5+3*jit.EventSlots)
	read(jit.EventSlots, 2*jit.EventSlots)
	// A hostile head, far ahead and back again.
	m.head(a, 1<<63)
	if _, lost, err := Events(m, c); err != nil || lost == 0 {
		t.Error(lost, err)
	}
	m.head(a, 0)
	read(0, 0)
}

func TestArenasThatCannotBeRead(t *testing.T) {
	m, a, _ := guarded(t)
	m.put(a.State().Start+9, 0xff)
	var corrupt *arena.CorruptError
	if all, err := Status(m); !errors.As(err, &corrupt) || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	m, a, _ = guarded(t)
	m.maps = append(m.maps[:0], m.maps[1:]...)
	as, err := Arenas(m)
	if err != nil || len(as) != 1 || as[0].Mapped != arena.HasState|arena.HasShared {
		t.Errorf("%+v, %v", as, err)
	}
	_ = a
}

// FuzzProcess: whatever a process has in its state, code, counters and ring,
// reading it neither panics nor goes on for ever.
func FuzzProcess(f *testing.F) {
	m, a, _ := guarded(f)
	f.Add(m.bytes[a.State().Start][:4096], m.bytes[base][:512], m.bytes[a.Shared().Start][:512])
	f.Fuzz(func(t *testing.T, state, code, shared []byte) {
		m, a, _ := guarded(t)
		head := bytes.Clone(m.bytes[a.State().Start][:192])
		copy(m.bytes[a.State().Start], state)
		copy(m.bytes[a.State().Start], head) // else the checksum refuses nearly all
		copy(m.bytes[base], code)
		copy(m.bytes[a.Shared().Start], shared)
		Status(m)
		Events(m, Cursor{})
	})
}

func TestTableProblem(t *testing.T) {
	const segv, bus = 1 << 10, 1 << 6
	in := func(m jit.FaultMode, s SiteState) []Prepatch {
		return []Prepatch{{Guards: []Guard{{FaultMode: m, SiteState: s}}}}
	}
	tests := []struct {
		name  string
		st    proc.Status
		found []Prepatch
		bad   bool
	}{
		{"caught", proc.Status{SigCgt: segv | bus}, in(jit.Table, SiteIn), false},
		{"given up", proc.Status{SigCgt: bus}, in(jit.Table, SiteIn), true},
		{"blocked", proc.Status{SigCgt: segv | bus, SigBlk: bus}, in(jit.Table, SiteIn), true},
		{"another mode", proc.Status{}, in(jit.Copy, SiteIn), false},
		{"out", proc.Status{}, in(jit.Table, SiteOut), false},
	}
	for _, tt := range tests {
		if got := TableProblem(tt.st, tt.found); (got != "") != tt.bad {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// What lasts for a moment is no problem, what stays is one.
func TestLastingTableProblem(t *testing.T) {
	const faults = 1<<10 | 1<<6
	found := []Prepatch{{Guards: []Guard{{FaultMode: jit.Table, SiteState: SiteIn}}}}
	for blocked, bad := range map[int]bool{0: false, 1: false, 2: false, 100: true} {
		reads := 0
		got := LastingTableProblem(func() (proc.Status, error) {
			if reads++; reads <= blocked {
				return proc.Status{SigCgt: faults, SigBlk: faults}, nil
			}
			return proc.Status{SigCgt: faults}, nil
		}, found)
		if (got != "") != bad {
			t.Errorf("signals that were blocked the first %d times, of %d: %q", blocked, reads, got)
		}
	}
	if got := LastingTableProblem(func() (proc.Status, error) { return proc.Status{}, proc.ErrGone }, found); got != "" {
		t.Errorf("of one that has ended: %q", got)
	}
}
