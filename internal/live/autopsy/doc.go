// Package autopsy answers, of a program that crashed or hangs, whether it was PIE:
// from a core file, or from a process that is still there.
//
// A core holds all it takes. The kernel dumps private memory that was written
// whole: PIE's state, its code, and the text pages its jumps were written to; and
// it dumps the registers of every thread. So observe reads a core as it reads a
// process, and the rest is where the program counter of the crashing thread lies:
//
//	in a guard, the handler                 it was PIE
//	behind a guard's link                   the function's own instruction, which was
//	                                        moved there: it would have crashed as well
//	inside a site                           a thread ran into the middle of a jump: PIE
//	where no code is, while a site          a damaged jump may have led it there: PIE
//	holds neither jump nor original
//	anywhere else, PIE's code on the stack  PIE's handler was below: look closer
//	anywhere else                           not PIE's code; but a call may have been
//	                                        rejected just before: the events tell
//
// A core is input from an enemy: every offset, size and count is checked.
package autopsy
