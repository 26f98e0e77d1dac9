package libpietest

import (
	"math/rand/v2"

	"github.com/patch-integration-engine/pie/libpie"
	"github.com/patch-integration-engine/pie/libpie/internal/words"
)

// A process has state of its own: what one test counts another does not see.
type state struct {
	seed  uint64
	words map[any]words.Words
}

func newState() state { return state{seed: rand.Uint64(), words: map[any]words.Words{}} }

// SetSeed sets the seed of the hashes of Map and its kin, which is random, and
// forgets all state.
func (p *Process) SetSeed(seed uint64) {
	p.state = state{seed: seed, words: map[any]words.Words{}}
}

// Call returns a call of the process, for a test to look at state with, or to set
// it:
//
//	if n := hits.Value(p.Call()); n != 3 { … }
//
// It is for the test's goroutine, and not while a guard runs.
func (p *Process) Call() *libpie.Call { return libpie.NewCall(&environment{p: p}) }

// Fork returns a process with a copy of p's state, as a child of fork(2) has it.
// Both have the same memory, variables and functions.
func (p *Process) Fork() *Process {
	child := *p
	child.state.words = map[any]words.Words{}
	for of, w := range p.state.words {
		child.state.words[of] = append(words.Words(nil), w...)
	}
	return &child
}

func (e *environment) State(of any, n int) (w words.Words, seed uint64) {
	s := &e.p.state
	if s.words[of] == nil {
		s.words[of] = make(words.Words, n)
	}
	return s.words[of], s.seed
}

func (e *environment) Thread() uint64 { return uint64(e.p.tid) }
