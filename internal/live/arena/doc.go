// Package arena is the format of PIE's memory in a target: encode, decode and
// allocate, with no process and no operating system in sight.
//
// An arena is three adjacent private regions beside the image they guard, so
// that a 5-byte jmp reaches from one to the other:
//
//	base            code    64 KiB  r-x private         slots: guards, handler
//	base + 64 KiB   state    8 KiB  rw- private         header, control blocks, records
//	base + 72 KiB   shared  32 KiB  rw- shared (anon)   event ring, counters
//
// In a process in which nothing can be mapped an arena lies in bytes that the program's
// files leave unused (padding.go); all of it is private then, and it has no ring.
//
// Everything that decides or runs is private, so nothing one process of a
// family writes changes what another executes; counters and events are shared
// by the processes that fork from each other, and what they say is a claim.
//
// The state region describes the whole. Its header carries the geometry of
// every table, so that another build of pie, with tables of other sizes,
// reads it too. Its records are:
//
//	slot      a range of code, found again by the key of what stands in it: a guard's, an
//	          entrance (entrance.go), table mode's
//	prepatch  id, content hash, time of insertion
//	guard     one guard on one site: where, original bytes, patch bytes, slots
//	control   jit's control block: the mode word, the trial's end
//	handler   table mode's signal handler, and jit's fault block
//
// A record is written by one remote write that stays in one page, so a killed
// writer leaves it old or new. Records are written as prepared before the site
// is, and as in afterwards: whatever step a writer dies at, Decode names what
// was begun. Whether a guard is in is decided by the bytes at its site alone.
//
// The allocator (Space, Arena.Allot) works on the model alone and books what a
// plan needs before anything is written. A program finds its slots and record
// again, however often it comes and goes; a slot that a thread may still be in is
// given to nobody else.
//
// Decode takes the state as input from an enemy: every offset, count, string
// and index is checked, and nothing it returns can index out of its tables.
package arena
