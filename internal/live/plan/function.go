package plan

import (
	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Function is the code to be guarded, as the file has it.
type Function struct {
	Name  string
	Entry address.Addr
	Size  uint64 // bytes of Text that are the function; 0 when unknown
	// Text is the function's code and what follows it (padding is used by short
	// functions), from Entry on.
	Text []byte
	Go   bool // compiled by Go: ABIInternal, goroutine stacks
	// Inner are other symbols' addresses behind Entry: what enters the function there.
	Inner []address.Addr
	// Segment is the executable segment around the function, from SegmentAt on:
	// it is searched for branches that enter the site from elsewhere (a .cold part, assembly).
	// Empty: only the function itself is searched.
	Segment   []byte
	SegmentAt address.Addr
	// Entrances keeps what was found in Segment; nil: nothing is kept.
	Entrances *Entrances
}

// code is the function itself; all of Text where its size is not known.
func (f *Function) code() []byte {
	if f.Size == 0 || f.Size > uint64(len(f.Text)) {
		return f.Text
	}
	return f.Text[:f.Size]
}

// end is the address behind the function.
func (f *Function) end() address.Addr { return f.Entry.Add(int64(len(f.code()))) }

// Site is where a function is patched.
type Site struct {
	Function string
	Entry    address.Addr
	Start    address.Addr // of the bytes that are replaced
	Original []byte       // those bytes: jumpLen of them, or those of a punned jump
	Kept     []amd64.Inst // from Entry to Start: stay in place, run ahead of the guards
	Again    []amd64.Inst // the last of Kept, run once more behind the guards: guards change flags, and may rewrite arguments
	Before   []amd64.Inst // replaced, and run ahead of the guards
	After    []amd64.Inst // replaced, and run behind the guards
	Resume   address.Addr // behind the last instruction of After
	// Loop: After is a loop that returns to Start, with what lies in it: no thread may
	// be anywhere from Start to Resume when the site is replaced.
	Loop bool
	// Puns: After is one instruction that is shorter than a jump, and these are the ways to
	// jump over it. Behind it instructions of the function are, and stay.
	Puns []jit.Pun
	// Faults: the instruction of After may fault, and Go's runtime makes a panic of that.
	Faults bool

	ABI     jit.ABI
	Free    amd64.RegSet
	SPDelta int32  // rsp at the entry is rsp at Start plus SPDelta
	Undo    []byte // as jit.Site.Undo

	Warnings []string
}

// JIT returns what the compiler must know of the site.
func (s Site) JIT() jit.Site {
	return jit.Site{ABI: s.ABI, Free: s.Free, SPDelta: s.SPDelta, Undo: s.Undo}
}

// vacated is the end of the bytes that nothing may enter behind Start, and no thread may be
// in.
func (s *Site) vacated() address.Addr {
	if s.Loop || len(s.Puns) > 0 {
		return s.Resume
	}
	return s.Start.Add(jumpLen)
}

// length is how many bytes are written at Start.
func (s *Site) length() int64 {
	if len(s.Puns) > 0 {
		return punnedLen(s.After[0].Len)
	}
	return jumpLen
}

// moved are the replaced instructions in their order.
func (s *Site) moved() []amd64.Inst {
	return append(append([]amd64.Inst(nil), s.Before...), s.After...)
}
