// Package observe reads what PIE has in a process, without stopping it, writing
// to it, or knowing anything beforehand.
//
// Arenas are found by their shape in /proc/PID/maps and the magic of their
// state region, so that a process inserted into by another build of pie, long
// ago, from another container, tells everything by itself.
//
// What memory says is a claim of the process, which may be hostile: records
// are checked by arena.Decode, counters and events by the readers here, and
// whether a guard is in is answered by the bytes at its site alone. Strings are
// raw; whoever prints them escapes them.
package observe
