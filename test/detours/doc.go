// Package detours runs real programs with every one of their functions detoured.
//
// A program is built in many ways. Each function that plan accepts gets a guard,
// compiled by jit for its place as in a live process, that looks at the call and
// passes it. The program is started with all of them in, does its work, and must
// write, byte for byte, what it writes without; the guards' counters tell which
// functions ran. Functions that plan refuses are counted by reason, and, by
// breakpoints, so are those of them that the work would have called.
//
// What is real: choosing the site, relocating what the jump displaces, the guards'
// machine code. What is not: nothing is inserted while the program runs, which is
// what test/hosts is for; all is written before its first instruction.
package detours
