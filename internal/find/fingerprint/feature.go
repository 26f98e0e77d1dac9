package fingerprint

import "math"

// Feature is one property of a function: its kind in the top bits, a hash of
// what it is in the low 40. It is the same in every build of this package, as
// .pf files hold it.
type Feature uint64

// Kind is a kind of feature.
type Kind uint8

// Kinds. Their numbers are part of the .pf format.
const (
	KindString       Kind = 1 + iota // text the code refers to
	KindImport                       // name the code refers to through PLT or GOT
	KindConstant                     // read-only data the code loads, 16 bytes or fewer
	KindImmediate                    // number in an instruction
	KindField                        // displacement off a register: a struct's field
	KindGram                         // three operations in a row with their kinds of operand
	KindShape                        // number of instructions, branches, loops, calls by magnitude
	KindCalleeString                 // text that a called function refers to
	KindCalleeImport
	KindCallerString
	KindCallerImport
	KindArguments // of a target only: the set of argument registers that it reads
	// Of context: where the function's address is kept (pointer.go).
	KindRow    // a row of a table that has a name in it
	KindMember // a place in a class's table, or in an exported variable
	KindHanded // code that hands it over, with a text
	KindTaken  // the only code that takes it, by its texts and imports
	kindEnd
)

const hashBits = 40

// Kind returns the feature's kind.
func (f Feature) Kind() Kind { return Kind(f >> hashBits) }

func (f Feature) hash() uint64 { return uint64(f) & (1<<hashBits - 1) }

// isNumber tells whether the feature is a number that the source has, but no field's offset,
// which changes with the fields before it.
func (f Feature) isNumber() bool { return f.Kind() == KindConstant || f.Kind() == KindImmediate }

// as returns the same property under another kind.
func (f Feature) as(k Kind) Feature { return feature(k, f.hash()) }

func feature(k Kind, hash uint64) Feature {
	return Feature(k)<<hashBits | Feature(hash&(1<<hashBits-1))
}

func numberFeature(k Kind, v uint64) Feature { return feature(k, mix(v)) }

func textFeature(k Kind, s []byte) Feature { return feature(k, hashBytes(s)) }

// model is how a kind behaves when the same source is compiled again: keep is
// the share of features that are still there; damp accounts for features of the
// kind depending on one another, so that they do not count as so many
// independent witnesses; weight is the kind's part in the similarity. They are
// estimates, set so that the measurements of docs/fingerprints.md come out well.
type model struct{ keep, damp, weight float64 }

var models = [kindEnd]model{
	KindString:       {.90, 1, 1},
	KindImport:       {.90, .9, 1},
	KindConstant:     {.70, .6, 0.7},
	KindImmediate:    {.70, .6, 0.7},
	KindField:        {.75, .5, 0.6},
	KindGram:         {.50, .15, 0.35},
	KindShape:        {.50, .3, 0.3},
	KindCalleeString: {.70, .4, 0},
	KindCalleeImport: {.70, .4, 0},
	KindCallerString: {.70, .4, 0},
	KindCallerImport: {.70, .4, 0},
	KindArguments:    {.90, 0, 0}, // a gate looks at it
	KindRow:          {.90, 0, 0}, // known.go looks at these
	KindMember:       {.90, 0, 0},
	KindHanded:       {.90, 0, 0},
	KindTaken:        {.90, 0, 0},
}

// mix is the finalizer of MurmurHash3 (Appleby, public domain): every bit of v
// changes every bit of the result.
func mix(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 33
	v *= 0xc4ceb9fe1a85ec53
	return v ^ v>>33
}

// hashBytes is FNV-1a, mixed: the low bits are well spread.
func hashBytes(b []byte) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return mix(h)
}

// magnitude puts a count into a class; neighbouring classes are a factor of
// 1.5 apart.
func magnitude(n int) uint64 {
	if n <= 0 {
		return 0
	}
	return 1 + uint64(math.Log(float64(n))/math.Log(1.5))
}

func (k Kind) String() string {
	names := [...]string{"none", "text", "reference", "constant", "number", "field", "operations", "shape", "callee's text", "callee's reference", "caller's text", "caller's reference", "arguments", "row of a table", "member of a table", "handed over", "taken"}
	return names[k%kindEnd]
}
