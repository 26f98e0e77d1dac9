// Package recorder makes, of a verified guard, a program that does not judge a
// call but writes down what the guard looks at: the argument words and, if it
// may, every byte of memory the guard reads. pie record puts it into a process in
// the guard's place; pie test --replay runs guards over what it wrote.
//
// The recorder is bytecode as any other: it goes through the verifier, the JIT and
// the inserter, which know nothing of it, and so can do no more than a guard can.
// It always ends with Pass.
//
// # Mechanism
//
// Make copies the guard's instructions and puts code behind each read of the
// target that writes the address and what was found to a ring of slots in the
// prepatch's state (Ring says where). A call takes a slot, fills it, and publishes
// it by writing the slot's number last. Nothing is ever overwritten: a call may
// only take a slot that the reader has given leave for, by a limit that it writes
// to the ring. So:
//
//   - A target never waits. Without leave, or when another thread takes a slot at
//     the same moment, a call goes on unrecorded.
//   - A reader that dies gives no more leave, and recording ends by itself when the
//     slots it gave leave for are full.
//   - How much a recording costs the target is bounded by how fast the reader reads.
//
// A call whose memory does not fit its slot is cut off there, and says so. A fault
// ends a guard, and with it what the bytecode knows; so a call notes its slot in a
// lane, found by the address of its frame, which no other live call has. The
// landing block looks there, and publishes what was recorded until then.
//
// Everything in the state can be changed by the process. A Slot is what the
// process says happened.
package recorder

import (
	"crypto/sha256"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Options says what a recorder writes down.
type Options struct {
	Guard  int  // of its prepatch, from 0: written to each slot
	Args   int  // argument words in registers: 6 under SysV, 9 for Go
	Memory bool // what the guard reads, too
	Ring   Ring
}

// An UnsupportedError is a guard that cannot be recorded.
type UnsupportedError struct{ Why string }

func (e *UnsupportedError) Error() string { return "the guard cannot be recorded: " + e.Why }

// Make returns the recorder of a guard, verified. Errors are *UnsupportedError, or
// what verify says of the recorder: the guard leaves it no room on the stack.
func Make(p *verify.Program, o Options) (*verify.Program, error) {
	u := p.Unit()
	if err := supported(u, o); err != nil {
		return nil, err
	}
	b := &builder{p: p, u: u, o: o, spill: p.StackOf(0), labels: map[int]int{}, next: len(u.Insns)}
	b.names()
	b.prologue()
	if o.Memory {
		b.guard()
	} else {
		b.jump(b.finish)
	}
	b.endings()
	insns, pos, err := b.assemble()
	if err != nil {
		return nil, err
	}
	out := &bpf.Unit{
		Name: u.Name, Insns: insns, Pos: pos, Rodata: u.Rodata, State: o.Ring.State(),
		OnFault: b.labels[b.onFault], OnFuel: b.labels[b.onFuel],
	}
	if o.Memory {
		out.Symbols = u.Symbols
	}
	return verify.Verify(out)
}

// harmless are the capabilities that show in the verdict alone, or in the guard's own
// state.
const harmless = bpf.CapRewrite | bpf.CapShared | bpf.CapExit

func supported(u *bpf.Unit, o Options) error {
	if !o.Memory {
		return nil // the guard does not run
	}
	if u.Caps&^harmless != 0 {
		return &UnsupportedError{"it writes or calls, and a recorder must not"}
	}
	for _, i := range u.Insns {
		if i.IsLocalCall() {
			return &UnsupportedError{"it has functions that are not inlined; mark them static inline"}
		}
	}
	return nil
}

// Hash identifies the recorder of the prepatch with this hash: what is in a process
// is found again, whoever put it there.
func Hash(prepatch [sha256.Size]byte, memory bool, r Ring) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "pie recorder %d\x00%x %v %+v", version, prepatch, memory, r))
}

// version changes whenever the bytecode or the ring does.
const version = 1
