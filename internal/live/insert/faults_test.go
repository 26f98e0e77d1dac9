package insert

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// faulting makes a guard whose rejections read memory that is not there, in
// table mode: the fault lands on the instruction that loads the result.
func faulting(pl arena.Place) *jit.Code {
	var b []byte
	rip := func(op []byte, to address.Addr) {
		b = append(b, op...)
		b = binary.LittleEndian.AppendUint32(b, uint32(to-pl.Code-address.Addr(len(b))-4))
	}
	b = append(b, 0x85, 0xff)                                               // test %edi,%edi
	b = append(b, 0x79, 21)                                                 // jns pass
	b = append(b, 0xb8, 0x10, 0, 1, 0)                                      // mov $0x10010,%eax
	b = append(b, 0x48, 0x8b, 0x00)                                         // mov (%rax),%rax
	b = append(b, 0xf4)                                                     // hlt: never run
	landing := len(b)                                                       //
	rip([]byte{0xf0, 0x48, 0xff, 0x05}, pl.Counters+jit.CounterFaults)      // lock incq
	b = append(b, 0xb8)                                                     // mov $rejected,%eax
	b = binary.LittleEndian.AppendUint32(b, uint32(0xffff_ffff+rejected+1)) //
	b = append(b, 0xc3)                                                     // ret
	b[3] = byte(len(b) - 4)                                                 //
	load := pl.Code.Add(9)
	return &jit.Code{Bytes: b, Faults: []jit.FaultRange{{Start: load, End: load.Add(3), Landing: pl.Code.Add(int64(landing))}}}
}

// In table mode a read of memory that is not there ends the guard, in every
// thread, also inside a signal handler; with several arenas and prepatches one
// handler serves all; and what is removed can still land.
func TestTableMode(t *testing.T) {
	v := startVictim(t, "2", "0", "300")
	tr := newTracer(t)
	ctx := ctxFor(t, 60*time.Second)
	if why, err := Survey(v.p); err != nil || why.Risk != "" || why.Seccomp != 0 {
		t.Fatal(why, err)
	}
	for round := range 20 {
		for _, x := range []struct {
			id string
			f  address.Addr
		}{{"M-1", v.exe}, {"M-2", v.lib}} {
			pp, err := tryMade(v.p, x.id, table, x.f)
			must(t, err)
			if _, err := insertGuards(ctx, tr, v.p, pp, Options{Mode: jit.ModeEnforce}); err != nil {
				t.Fatalf("round %d: %s: %v", round, x.id, err)
			}
		}
		v.progress(t, slow)
		if s := v.progress(t, slow); s.Rejected == 0 || s.Passed != 0 {
			t.Fatalf("round %d: %+v", round, s)
		}
		for _, id := range []string{"M-1", "M-2"} {
			if g := status(t, v, id).Guards[0]; g.Counts.Faults == 0 || g.FaultMode != jit.Table {
				t.Errorf("%s: %+v", id, g)
			}
			if _, err := Remove(ctx, tr, v.p, id, nil); err != nil {
				t.Fatalf("round %d: remove %s: %v", round, id, err)
			}
		}
		v.progress(t, slow)
	}
	textEqualsFile(t, v.p)
	if n := handlers(t, v); n != 1 {
		t.Errorf("%d arenas have a handler", n)
	}
}

func handlers(t *testing.T, v *victim) int {
	t.Helper()
	space, err := Space(v.p, "test")
	must(t, err)
	n := 0
	for _, a := range space.Arenas() {
		if a.HasHandler() {
			n++
		}
		for _, s := range a.Slots {
			if s.Kind == arena.SlotTable && s.State == arena.SlotUsed && !a.HasHandler() {
				t.Errorf("%v: a table without a handler", a)
			}
		}
	}
	return n
}
