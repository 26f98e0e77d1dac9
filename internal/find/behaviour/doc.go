// Package behaviour executes a function of an x86-64 program in made-up worlds, and tells
// what it does there that no compiler chooses.
//
// A small interpreter runs the function's instructions. Arguments, and every word of memory
// that is neither the file's nor the stack's, are pseudo-random numbers, a function of the
// world's number and the word's address. So two builds of one source read, write, call and
// return the same, whatever registers they use and in whatever order their blocks lie. What
// is seen is taken down as hashes: words read and written, calls with their arguments,
// the result. An address in the file stands for what is there (a text, a constant, code,
// a variable), one on the stack for the stack.
//
// In most worlds most functions do little, as a check at their beginning fails. So Explore
// looks for worlds in which they do more: it runs the function, notes which places it
// compares with what, and makes worlds in which that place has that value.
//
// Compilers write out different calls in their callers. Calls of small functions, and of
// those called once, are entered, and other calls only seen; or, in the other Manner, all are
// entered. What a call that is not entered returns is a function of its arguments.
//
// Invariants:
//
//   - Nothing is ever executed by the processor, and nothing outside a run changes but the
//     cache of decoded instructions.
//   - A run ends: after maxSteps instructions, or bytes of string operations, maxSeen things
//     seen, or at the first instruction that is not known.
//   - A run depends on the program, the place, the world and the manner only.
//
// Sources: comparing functions by what they do with inputs made up is blanket execution
// (Egele et al., USENIX Security 2014) and IMF-SIM (Wang and Wu, ASE 2017); values that
// make comparisons come out otherwise are those of concolic testing (Godefroid, Klarlund
// and Sen, PLDI 2005).
package behaviour
