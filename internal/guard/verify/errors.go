package verify

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Reason is a stable name for why a guard was refused.
type Reason string

// Reasons found in the instructions themselves.
const (
	ReasonEmpty        Reason = "program_empty"
	ReasonTooLong      Reason = "program_too_long"
	ReasonOpcode       Reason = "unknown_opcode"
	ReasonReserved     Reason = "reserved_field"
	ReasonRegister     Reason = "bad_register"
	ReasonWriteR10     Reason = "write_r10"
	ReasonShift        Reason = "shift_too_wide"
	ReasonDivZero      Reason = "division_by_zero"
	ReasonAtomic       Reason = "unknown_atomic"
	ReasonLDDW         Reason = "lddw_incomplete"
	ReasonPseudo       Reason = "unknown_pseudo"
	ReasonSymbolRange  Reason = "symbol_range"
	ReasonRodataRange  Reason = "rodata_range"
	ReasonStateRange   Reason = "state_range"
	ReasonHelper       Reason = "unknown_helper"
	ReasonCallRegister Reason = "call_register"
	ReasonJumpRange    Reason = "jump_out_of_range"
	ReasonJumpIntoLDDW Reason = "jump_into_lddw"
	ReasonFallsOff     Reason = "falls_off_end"
	ReasonLandingRange Reason = "landing_out_of_range"
	ReasonUnreachable  Reason = "unreachable"
	ReasonSharedCode   Reason = "shared_code"
	ReasonRecursion    Reason = "recursion"
	ReasonCallDepth    Reason = "call_depth"
)

// Reasons found by following values.
const (
	ReasonUninitRegister  Reason = "uninit_register"
	ReasonMixedRegister   Reason = "mixed_register"
	ReasonUninitStack     Reason = "uninit_stack"
	ReasonStackBounds     Reason = "stack_bounds"
	ReasonStackDepth      Reason = "stack_depth"
	ReasonPartialPointer  Reason = "partial_pointer"
	ReasonPointerOffset   Reason = "pointer_offset"
	ReasonFrameVariable   Reason = "frame_variable_offset"
	ReasonFrameAccess     Reason = "frame_access"
	ReasonFrameRead       Reason = "frame_read"
	ReasonFrameWrite      Reason = "frame_write"
	ReasonFrameMixed      Reason = "frame_mixed"
	ReasonStoreTarget     Reason = "store_target"
	ReasonStoreMixed      Reason = "store_mixed"
	ReasonStoreRodata     Reason = "store_rodata"
	ReasonRodataBounds    Reason = "rodata_bounds"
	ReasonStateBounds     Reason = "state_bounds"
	ReasonStateAccess     Reason = "state_access"
	ReasonAtomicRegion    Reason = "atomic_region"
	ReasonAtomicAlign     Reason = "atomic_alignment"
	ReasonPointerALU      Reason = "pointer_arithmetic"
	ReasonPointerCompare  Reason = "pointer_comparison"
	ReasonPointerLeak     Reason = "pointer_leak"
	ReasonPointerArg      Reason = "pointer_argument"
	ReasonInvoke          Reason = "bad_invoke"
	ReasonDangling        Reason = "dangling_stack_address"
	ReasonVerdictUnknown  Reason = "verdict_unknown"
	ReasonVerdictIllegal  Reason = "verdict_illegal"
	ReasonCapability      Reason = "capability_missing"
	ReasonResultMissing   Reason = "result_missing"
	ReasonArgumentMissing Reason = "argument_missing"
	ReasonXMM0Missing     Reason = "xmm0_missing"
	ReasonErrnoMissing    Reason = "errno_missing"
	ReasonCodeMissing     Reason = "code_missing"
	ReasonAlwaysFaults    Reason = "always_faults"
	ReasonEndless         Reason = "endless_loop"
	ReasonLandingFaults   Reason = "landing_faults"
	ReasonLandingLoops    Reason = "landing_loops"
	ReasonTooComplex      Reason = "too_complex"
)

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

// refuse makes an Error; Verify adds the place in the prepatch.
func refuse(pc int, r Reason, format string, args ...any) *Error {
	return &Error{Insn: pc, Reason: r, Msg: fmt.Sprintf(format, args...)}
}

// place fills in where an instruction comes from.
func (e *Error) place(u *bpf.Unit) *Error {
	if e.Insn >= 0 && e.Insn < len(u.Pos) {
		e.Pos = u.Pos[e.Insn]
	}
	return e
}
