// Package state is what libpie's state is made of: hash tables in a fixed number
// of words. It is written in the language of guards: it runs natively under go
// test, and is compiled into the guards that use it.
//
// A table is rows of Ways slots of two words, key and value. A key has one row,
// which a seeded hash chooses so that nobody can aim at it, and may be in any slot
// of it: an operation looks at Ways slots and no more, and a slot is free when its
// key is 0. Key 0 itself has words 0 and 1.
//
// Nothing waits. A slot is taken and given back by one compare-and-swap of its
// key, and its value changes by one instruction. Whatever a hostile process writes
// into shared words, each index is cut to the table before it is used, and each
// loop ends.
package state

import "github.com/patch-integration-engine/pie/libpie/internal/words"

// Ways is how many slots a row has.
const Ways = 16

// Shape of a table's words.
const (
	rowWords = 2 * Ways
	first    = 2 // the first row; before it is key 0
)

// tries is how often a slot is looked for while others take those that were free.
const tries = 4

// Words is how many words a table of so many rows has. rows is a power of two.
func Words(rows uint64) uint64 { return first + rows*rowWords }

// Rows is how many rows a table needs for so many keys: one where all fit in it,
// else three slots a key, so that hardly ever chance fills a row (once in some
// hundred tables that are filled to the last key).
func Rows(keys uint64) uint64 {
	rows := uint64(1)
	for rows*Ways < 3*keys && keys > Ways {
		rows *= 2
	}
	return rows
}

// row is where the row of a key begins. last is the number of rows less one.
func row(seed, last, key uint64) uint64 {
	h := (key ^ seed) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return first + (h>>32&last)*rowWords
}

// find returns the slot of a key. What it returns as index is in the table also
// when there is none.
func find(w words.Words, seed, last, key uint64) (slot uint64, found bool) {
	if key == 0 {
		return 0, words.Load(w, 0) != 0
	}
	at := row(seed, last, key)
	for n := uint64(0); n < rowWords; n += 2 {
		if words.Load(w, at+n) == key {
			return at + n, true
		}
	}
	return 0, false
}

// claim returns the slot of a key, a free one if it had none. ok is false when
// its row is full.
func claim(w words.Words, seed, last, key uint64) (slot uint64, ok bool) {
	if key == 0 {
		words.Store(w, 0, 1)
		return 0, true
	}
	for try := 0; try < tries; try++ {
		at := row(seed, last, key) // here, so that the loops have a head each, and a bound
		free := uint64(rowWords)
		for n := uint64(0); n < rowWords; n += 2 {
			is := words.Load(w, at+n)
			if is == key {
				return at + n, true
			}
			if is == 0 && free >= rowWords {
				free = n
			}
		}
		if free >= rowWords {
			return 0, false
		}
		if was := words.Swap(w, at+free, 0, key); was == 0 || was == key {
			return at + free, true
		}
	}
	return 0, false
}

// holds reports whether the slot is still the key's.
func holds(w words.Words, slot, key uint64) bool {
	is := words.Load(w, slot)
	if slot == 0 {
		return is != 0
	}
	return is == key
}

// Get returns the value of a key.
func Get(w words.Words, seed, last, key uint64) (value uint64, found bool) {
	slot, found := find(w, seed, last, key)
	if !found {
		return 0, false
	}
	value = words.Load(w, slot+1)
	if !holds(w, slot, key) {
		return 0, false
	}
	return value, true
}

// Put sets the value of a key. It is false when there is no room for the key.
func Put(w words.Words, seed, last, key, value uint64) bool {
	slot, ok := claim(w, seed, last, key)
	if !ok {
		return false
	}
	words.Store(w, slot+1, value)
	if !holds(w, slot, key) { // deleted meanwhile: as if right after
		words.Swap(w, slot+1, value, 0)
	}
	return true
}

// Add adds n to the value of a key, which is 0 if there was none, and returns
// the sum. ok is false when there is no room for the key.
func Add(w words.Words, seed, last, key, n uint64) (sum uint64, ok bool) {
	slot, ok := claim(w, seed, last, key)
	if !ok {
		return 0, false
	}
	sum = words.Add(w, slot+1, n) + n
	if !holds(w, slot, key) {
		words.Add(w, slot+1, -n)
	}
	return sum, true
}

// Delete takes a key out.
func Delete(w words.Words, seed, last, key uint64) {
	if key == 0 {
		words.Store(w, 1, 0)
		words.Store(w, 0, 0)
		return
	}
	at := row(seed, last, key)
	for n := uint64(0); n < rowWords; n += 2 {
		if words.Load(w, at+n) == key {
			words.Store(w, at+n+1, 0)
			words.Swap(w, at+n, key, 0)
		}
	}
}
