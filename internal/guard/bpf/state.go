package bpf

import "fmt"

// stateAt returns the word of the state at an offset.
func (m *machine) stateAt(at uint64, n int) ([]byte, error) {
	size := uint64(m.in.Unit.GuardState())
	if n != 8 || at%8 != 0 || at >= size {
		return nil, fmt.Errorf("accesses %d bytes at offset %d of %d bytes of state", n, int64(at), size)
	}
	return m.in.State[at:][:8], nil
}

// AtomicOnState reports whether the atomic operation op (Imm) is one that the
// state knows: those that are one instruction of the machine.
func AtomicOnState(op int32) bool {
	switch op {
	case AtomicADD, AtomicADD | AtomicFetch, AtomicXCHG, AtomicCMPXCHG:
		return true
	}
	return false
}
