package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// program is what Compile needs of a verify.Program.
type program interface {
	Unit() *bpf.Unit
	Reachable(i int) bool
	FaultPoint(i int) bool
	NeedsFuel(i int) bool
	Stack() int
	Verdicts() []bpf.Verdict
}
