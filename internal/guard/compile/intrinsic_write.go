package compile

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// mayWrite refuses to write where the file has not asked for it.
func (s *site) mayWrite() bool {
	if s.caps&bpf.CapWrite != 0 {
		s.m.used |= bpf.CapWrite
		return true
	}
	s.fail("add //pie:cap write to the file, which the operator will be shown", "the guard writes to the program's memory without having asked for it")
	return false
}

// put lowers PutN: the low size bytes of argument 2 to the address in argument 1.
func (s *site) put(size uint8) value {
	a, v := s.word(1), s.word(2)
	if !s.mayWrite() || s.err != nil {
		return value{}
	}
	if v.isConst() && size < 8 {
		v.c = int64(int32(v.c)) // what is above is not stored
	}
	s.emit(insn{op: opStore, a: s.inReg(a), size: size, b: v})
	return value{}
}

// zero lowers Zero.
func zero(s *site) value {
	a, n := s.word(1), s.word(2)
	if s.mayWrite() && s.err == nil {
		s.helper(bpf.HelperZero, a, n)
	}
	return value{}
}
