// Package plan decides what will be written where, before anything is attached:
// it is pure, and imports neither os nor syscall.
//
// # What a plan changes in a function
//
//	entry:  kept      whole instructions that stay in place
//	site:   jmp  ─────────────▶ before: instructions that must run ahead of the guards
//	                            guard
//	                            link ─▶ the next guard of the site, if there is one
//	after:  …        ◀───────── after: the instructions the jmp replaced, jmp back
//
// Every guard has its own copies of before and after, so that a call through a lone
// guard meets two jumps, as with a detour written by hand. Several guards of a
// site run the before of the first and the after of the last.
//
// The first instruction is kept where that can be: a kernel uprobe executes the
// first instruction of the file and goes on behind it, so a jump that begins at
// the entry would be entered in its middle. What is kept runs ahead of the
// guards; it may push and compute, but the arguments, the callee-saved registers
// and memory that a caller can see must be as at the entry, or Undo must bring
// them back.
//
// # Invariants
//
//   - A site is whole instructions, at least five bytes, in one page; or, in a Go leaf, one
//     instruction that is shorter, over which a punned jump is written (jit.Pun): the bytes
//     behind it stay, or are padding.
//   - No branch of the function, and no rel32 branch of its image, enters a site
//     behind its start. A branch from inside the site into the site is retargeted.
//   - Guards run once a call: no loop returns to the site or the kept
//     instructions, unless all of it moves along (loopsite.go). A jump back to the
//     entry is a call of its own.
//   - A call only ends a site and pushes its original return address, so no
//     return address ever points into our code or into the middle of a site.
//   - A register is free for guards only if the function writes it, on every path
//     from the site, before reading it, and never a callee-saved one, nor one that
//     the kept instructions pushed, unless Undo restores it: gcc's inter-procedural
//     register allocation and clang's preserve_most make every other register the caller's.
//   - Go: no instruction boundary at which the runtime may have parked a goroutine is
//     overwritten, and an instruction that can fault on a nil pointer moves only so that
//     the panic is the one it was (goleaf.go).
package plan
