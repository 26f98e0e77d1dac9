package verify

import (
	"math/rand/v2"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// FuzzVerify: no bytes make Verify crash or hang, and what it accepts is sound.
func FuzzVerify(f *testing.F) {
	for _, s := range samples(f, "testdata/*.txtar") {
		u := unit(f, s.text)
		b, err := bpf.Encode(u.Insns)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, u.OnFault, u.OnFuel)
	}
	f.Fuzz(func(t *testing.T, b []byte, onFault, onFuel int) {
		insns, err := bpf.Decode(b)
		if err != nil {
			return
		}
		u := unit(t, "mov %r0, 0\nexit\n")
		u.Insns, u.OnFault, u.OnFuel, u.Fuel = insns, onFault, onFuel, 100
		if err := checkSound(u, rand.New(rand.NewPCG(1, uint64(len(b)))), 5); err != nil {
			t.Error(err)
		}
	})
}
