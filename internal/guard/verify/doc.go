// Package verify proves, before a guard goes into a process, that it cannot
// harm it.
//
// # What is proven
//
// A verified guard, run on any call, with any content of the target's memory:
//   - executes only instructions of RFC 9669 and calls only known helpers;
//   - writes nothing but its own stack, the prepatch's state and the result words
//     of its frame; with CapWrite also the target's memory, where FaultPoint says;
//   - reads its stack only where it has written, constants only in bounds, and
//     the frame only in whole words at fixed offsets. All else that it reads is
//     the target's memory, at instructions that FaultPoint names, so that the
//     machine code can turn a fault into onfault;
//   - ends: a loop without a proven bound pays fuel at its back-edges
//     (Fuel), and one without a way out is refused;
//   - ends with a verdict out of a known set, having stored what that verdict
//     announces, and never gives away an address of its own memory;
//   - in its onfault and onfuel actions, reads nothing that can fault and does
//     not loop.
//
// What it cannot prove it refuses. It never accepts on the ground that fuel or
// fault handling would stop the worst: those are for the target's memory and
// for honest loops, not for a guard that is wrong about itself.
//
// # How
//
// structure.go looks at each instruction alone, flow.go at functions. Then the
// values are followed by abstract interpretation (analysis.go): a state holds,
// for each register and each written word of the stack, what kind of thing it is
// and, for numbers and offsets, a scalar.Set. Where paths meet, up to eight
// states are kept apart; further ones are joined with the nearest (absorb.go),
// at loop heads with widening to the numbers that the guard compares with. Loops
// are found as a weak topological order (wto.go), which is also the order of the
// work. Numbers known to be equal carry a link, so that a comparison of a copy,
// a spilled word or a reloaded argument narrows them all.
//
// Bounds of loops are found after the fixpoint (progress.go), and decide,
// together with estimated times (cost.go), which loops pay fuel.
//
// # Decisions
//
// Division by zero has the meaning that RFC 9669 gives it; dividing by the
// constant 0, and shifting by a constant of the width or more, are refused as
// mistakes (the interpreter masks such shifts). Instructions that nothing leads
// to are refused; those behind a branch that is never taken are allowed and
// reported as not Reachable. Reads of a Go error's two words (SymbolBytes) cannot
// fault: locate found it mapped, and a Reject needs them where a fault has nowhere
// to go. A read that can only fault, and a loop that never ends, are refused even
// where onfault or fuel would end them: the author meant something else.
package verify
