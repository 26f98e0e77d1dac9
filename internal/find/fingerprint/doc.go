// Package fingerprint finds one function again in another build of its program,
// or abstains.
//
// A function is taken as a set of features: the texts it refers to, what it
// imports, constants, numbers, the offsets of the fields it uses, runs of three
// operations, its shape. A feature counts by its rarity in the reference's module
// and in the one searched. Two numbers compare a reference with a candidate: the
// weighted Jaccard similarity, which says how much of the two is one, and the
// score, a log-likelihood ratio in nats, which says how much evidence there is.
// What is around the function, its callers and callees, adds to the score, the more
// the fewer other functions have it around them. Several builds of one fingerprint
// are compared one by one and taken together (merge.go): what all of them have is
// the source's, what one has is its compiler's.
//
// The build itself is known by its build ID. Else the reference's code is looked for
// as it was, which needs few functions to be read; only where that does not decide,
// all functions of about its size are compared.
//
// A wrong answer is the one thing that must not happen: a guard in front of
// another function breaks the program. So an answer has to pass gates (decide.go),
// above all the margin: the next best function of the module must be behind, and
// so must the functions that the reference's own module has most like the target,
// since when the target is absent it is one of them that is found. What passes all
// is AUTO; what a person has to look at, CONFIRM; less is a HINT, or no answer. Code
// that is there more than once is never AUTO by itself.
//
// A fingerprint may carry its builds whole (whole.go): all functions and their calls. Then
// the two programs are paired function by function (pairing.go), and what has a counterpart
// of its own is told to be no rival, nor the target (placed.go). It tells code that is there
// more than once apart by who calls it.
//
// It may carry what the function does (played.go): reads, writes, calls and results when an
// interpreter executes it in made-up worlds (package behaviour). Where the code does not tell,
// the functions that could be the target are executed in the same worlds (behaviour.go); the
// one that does the same, when no other comes near, here or in the reference's build, is it,
// if its code and what is around it speak for it too.
//
// Invariants:
//
//   - Names in a symbol table are never compared one by one, only shown. All those that
//     a file exports, taken together, are part of what tells one source from another
//     (sketch.go).
//   - Everything in the file and in the fingerprint may be made to hurt: counts,
//     sizes and work are bounded, and nothing panics.
//   - The result depends on the two files only.
//
// Sources: the features and gates come from measurements; similarity of sets by
// rarity is Jaccard's with the inverse document frequency of Spärck Jones (1972).
package fingerprint
