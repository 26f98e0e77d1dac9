package bpf

import (
	"errors"
	"fmt"
	"slices"
)

// invoke is HelperInvoke.
func (m *machine) invoke(fn, block Value) (uint64, error) {
	k := slices.Index(m.in.Symbols, fn.Bits)
	switch {
	case m.in.Unit.Caps&CapCall == 0:
		return 0, errors.New("calls a function of the target without the capability")
	case m.landed:
		return 0, errors.New("calls a function of the target in a landing block")
	case fn.Kind != KindScalar || k < 0 || k >= len(m.in.Unit.Symbols) || m.in.Unit.Symbols[k].Kind != SymbolFunc:
		return 0, errors.New("calls what is no function that it names")
	case block.Kind != KindStack || block.Bits%8 != 0:
		return 0, fmt.Errorf("passes %v as the block of a call", block.Kind)
	}
	var args [InvokeArgs]uint64
	for i := range args {
		v, err := m.loadFrom(block, int64(8*i), 8)
		if err != nil {
			return 0, err
		}
		if v.pointer() {
			return 0, fmt.Errorf("passes %v to the target", v.Kind)
		}
		args[i] = v.Bits
	}
	switch {
	case m.in.Audit:
		return 0, errAudit
	case m.in.Call == nil:
		return 0, errFault
	}
	r, ok := m.in.Call(m.in.Unit.Symbols[k], args)
	if !ok {
		return 0, errFault
	}
	for off, v := range map[int64]uint64{InvokeWord: r.Word, InvokeXMM0: r.XMM0, InvokeErrno: uint64(r.Errno)} {
		if err := m.storeTo(block, off, 8, scalar(v)); err != nil {
			return 0, err
		}
	}
	return r.Word, nil
}
