// Package words is the memory of a prepatch's state: 64-bit words that several
// threads read and change at once, without locks.
//
// These are the bodies that run under go test. In a process each function is one
// instruction, on memory in which pie proved that the index stays.
package words

import "sync/atomic"

// Words is the memory of one object.
type Words []uint64

// Load reads word i.
func Load(w Words, i uint64) uint64 { return atomic.LoadUint64(&w[i]) }

// Store sets word i to v.
func Store(w Words, i, v uint64) { atomic.StoreUint64(&w[i], v) }

// Add adds n to word i and returns what it was.
func Add(w Words, i, n uint64) uint64 { return atomic.AddUint64(&w[i], n) - n }

// Swap sets word i to v if it is old, and returns what it was.
func Swap(w Words, i, old, v uint64) uint64 {
	for {
		if atomic.CompareAndSwapUint64(&w[i], old, v) {
			return old
		}
		if was := atomic.LoadUint64(&w[i]); was != old {
			return was
		}
	}
}
