package bpf

import (
	"encoding/binary"
	"fmt"
)

// storeTarget writes n bytes of v to the target.
func (m *machine) storeTarget(at uint64, n int, v Value) error {
	if v.pointer() || m.in.plain == nil && m.in.Unit.Caps&CapWrite == 0 {
		return fmt.Errorf("writes %v to the target", v.Kind)
	}
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], v.Bits)
	return m.writeBytes(at, buf[:n])
}

// writeBytes writes p to the target, all of it or nothing. A guard that only
// counts reads instead.
func (m *machine) writeBytes(at uint64, p []byte) error {
	if m.in.Audit {
		return m.readBytes(scalar(at), make([]byte, len(p)))
	}
	w, ok := m.in.Memory.(WritableMemory)
	if !ok || m.in.plain == nil && !InTarget(at, uint64(len(p))) || !w.Write(at, p) {
		return errFault
	}
	return nil
}

// zero is HelperZero.
func (m *machine) zero(a, n Value) error {
	limit, err := length(n)
	switch {
	case err != nil:
		return err
	case a.Kind != KindScalar || m.in.Unit.Caps&CapWrite == 0:
		return fmt.Errorf("writes to %v", a.Kind)
	}
	for k := range limit {
		if k%FuelBytes == 0 {
			if err := m.charge(1); err != nil {
				return err
			}
		}
		if err := m.writeBytes(a.Bits+k, []byte{0}); err != nil {
			return err
		}
	}
	return nil
}
