// Package insert carries a plan out in a running process, and takes it back.
//
// An insertion is four phases. Only the third changes what the program does.
//
//	check    nothing attached: limits, what is in already, the bytes at the sites
//	prepare  one thread stopped: the arena is mapped by remote system calls, and
//	         filled: records as prepared, code, control blocks; the kernel copies
//	         the pages of the sites. A thread that computes is let go of every 40 µs,
//	         and stopped again
//	         An arena in padding needs no system call: it is only written, anchor first
//	commit   the world stopped: every site compared with the file's bytes, threads
//	         inside a site moved, one write a site
//	prove    sites, code and links read back; the records say in
//
// A removal is a commit in the other direction. What decides whether a guard is
// in is one write to its site, or for a further guard on a guarded site to the
// link of the guard ahead of it; so whichever step pie dies at, the process is guarded or as
// it was, its records name what was begun, and Space or Remove of any later pie
// finishes it.
//
// Invariants:
//
//   - Code that a thread may be in is never written, but for links and entrances, in the
//     stopped world. A removed guard's link leads on to what followed it, so that a
//     thread in it finds its way; it changes only when no thread is there.
//     Slots of removed guards are reused by the same program alone until a stopped
//     world has shown that no thread, and no signal frame, is in them.
//   - Code a guard was removed from stays mapped and valid; so does the arena.
//   - What cannot be proven safe is refused by name before anything is written,
//     and what was mapped for it is unmapped.
//   - Between first interrupt and last resume nothing is allocated: all writes are
//     laid out before.
package insert
