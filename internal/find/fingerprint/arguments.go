package fingerprint

import (
	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// arguments tells which argument registers (psABI, 3.2.3) a function's own
// instructions read before they write them. What a compiler made of a function by
// dropping or fixing an argument (.isra, .constprop) reads fewer, and a guard would
// look at the wrong ones.
func (m *Module) arguments(i int) Feature {
	registers := amd64.Set(amd64.RDI, amd64.RSI, amd64.RDX, amd64.RCX, amd64.R8, amd64.R9)
	f := &m.funcs[i]
	at := address.Addr(f.at)
	free := amd64.FreeAtEntry(m.image.bytes(f.at, min(f.size, maxFunctionSize)), at, at, registers)
	return feature(KindArguments, uint64(registers&^free))
}

// readsEnough tells whether a function that reads the arguments of a feature can
// be the target by them: it reads at least those that some build of the target
// does. A fingerprint that was made without tells nothing.
func (s *Sample) readsEnough(arguments Feature) bool {
	known := false
	for i := len(s.Features) - 1; i >= 0 && s.Features[i].Kind() == KindArguments; i-- {
		known = true
		if s.Features[i].hash()&^arguments.hash() == 0 {
			return true
		}
	}
	return !known
}
