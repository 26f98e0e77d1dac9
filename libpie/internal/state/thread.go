package state

import "github.com/patch-integration-engine/pie/libpie/internal/words"

// Threads end without telling anybody, so that what they leave in a table must
// go at some time: when a row is full, a newcomer takes the slot that its own hash
// names from whoever has it.

// own returns the slot of a thread.
func own(w words.Words, seed, last, thread uint64) uint64 {
	slot, ok := claim(w, seed, last, thread)
	if ok {
		return slot
	}
	slot = row(seed, last, thread) + thread>>6&(Ways-1)*2
	if was := words.Load(w, slot); was != thread {
		words.Store(w, slot+1, 0)
		words.Swap(w, slot, was, thread)
	}
	return slot
}

// SetOwn sets the thread's value.
func SetOwn(w words.Words, seed, last, thread, value uint64) {
	words.Store(w, own(w, seed, last, thread)+1, value)
}

// AddOwn adds n to the thread's value, and returns the sum.
func AddOwn(w words.Words, seed, last, thread, n uint64) uint64 {
	return words.Add(w, own(w, seed, last, thread)+1, n) + n
}
