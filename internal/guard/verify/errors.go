package verify

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Reason is a stable name for why a guard was refused.
type Reason string

// Error is a refusal: which instruction, where it comes from, and what to do.
type Error struct {
	Insn   int     // index into Unit.Insns, −1 when the whole guard is meant
	Pos    bpf.Pos // zero where the bytecode has no source
	Reason Reason
	Msg    string
}

// Error gives the place in the prepatch where it is known, else the instruction.
func (e *Error) Error() string {
	switch {
	case e.Pos.Line > 0:
		return fmt.Sprintf("%s:%d:%d: %s [%s]", e.Pos.File, e.Pos.Line, e.Pos.Col, e.Msg, e.Reason)
	case e.Insn >= 0:
		return fmt.Sprintf("instruction %d: %s [%s]", e.Insn, e.Msg, e.Reason)
	}
	return fmt.Sprintf("%s [%s]", e.Msg, e.Reason)
}
