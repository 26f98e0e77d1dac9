package jit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// FuzzCompile: whatever verification accepts is either placed, with fault ranges
// that lie in order within the code, or refused by a *PlaceError; and placing it
// again gives the same code, for slots are found again by their content.
func FuzzCompile(f *testing.F) {
	for seed := range uint64(20) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 2)), target: []uint64{uint64(dataAt)}, abi: ABI(seed % 2)}
		u := g.unit(12)
		code, err := bpf.Encode(u.Insns)
		if err != nil {
			f.Fatal(err)
		}
		landings := binary.LittleEndian.AppendUint16(nil, uint16(u.OnFault))
		f.Add(binary.LittleEndian.AppendUint16(landings, uint16(u.OnFuel)), code, uint16(seed*0x1357))
	}
	f.Fuzz(func(t *testing.T, landings, code []byte, free uint16) {
		insns, err := bpf.Decode(code)
		if err != nil || len(landings) < 4 {
			return
		}
		u := &bpf.Unit{
			Name: "fuzz", Caps: bpf.CapRewrite | bpf.CapWrite, Insns: insns, Rodata: []byte("some constant memory"),
			OnFault: int(binary.LittleEndian.Uint16(landings)), OnFuel: int(binary.LittleEndian.Uint16(landings[2:])),
		}
		p, err := verify.Verify(u)
		if err != nil {
			return
		}
		for mode := Table; mode <= Copy; mode++ {
			for _, abi := range []ABI{SysV, GoInternal} {
				l := Layout{
					Code: codeAt, Control: stateAt, Counters: sharedAt, Events: sharedAt + 0x1000,
					After: goesBack, Gettid: true, Errno: ErrnoSlot{Known: true}, Faults: mode,
				}
				site := Site{ABI: abi, Free: amd64.RegSet(free).Without(amd64.RSP)}
				c, err := Compile(p, site, l)
				if err != nil {
					if place := (*PlaceError)(nil); !errors.As(err, &place) {
						t.Fatalf("%v is not a *PlaceError", err)
					}
					continue
				}
				checkRanges(t, c, l)
				if again, err := Compile(p, site, l); err != nil || !bytes.Equal(again.Bytes, c.Bytes) {
					t.Fatalf("the second time the code differs (%v)", err)
				}
			}
		}
	})
}

func checkRanges(t *testing.T, c *Code, l Layout) {
	t.Helper()
	end, last := l.Code.Add(int64(len(c.Bytes))), l.Code
	for _, r := range c.Faults {
		if r.Start < last || r.End <= r.Start || r.End > end || r.Landing < l.Code || r.Landing >= end {
			t.Fatalf("fault range %+v of code at %v to %v, after %v", r, l.Code, end, last)
		}
		last = r.End
	}
	if l.Faults != Table && len(c.Faults) > 0 {
		t.Fatalf("mode %d has %d fault ranges", l.Faults, len(c.Faults))
	}
}
