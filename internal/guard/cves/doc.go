// Package cves measures precision: does the compiler, and does the verifier,
// accept what people write?
//
// testdata holds guards for real vulnerabilities, a file each, as somebody who
// knows the advisory and not the verifier would write them: string scans, walkers
// of TLVs and chunks, linked lists, tables of tables, UTF-8 and base64, paths,
// checksums, state machines. The first 24 were written and committed before the
// verifier was looked at, and accepted as they were. One of the others showed that
// a number of an inner loop was widened for what an outer one had done: the
// verifier was corrected, not the guard. Nothing in them is there to please it.
//
// Another twenty were written in one go by somebody who had read the documentation only:
// sixteen were accepted as they were. One of the others used function literals, which
// have been part of the language since then, and pointers to one of two variables; two
// kept more state than there is, and one kept bools, where the messages now say what
// fits. cases_test.go says what they must reject and what they must let through.
//
// Fifteen more were written for programs that were then built from the vulnerable
// source: all were accepted as they were. Fourteen were run in the program or its
// library. Twelve of these attacks crash or hang it without the guard, one (of
// CVE-2023-45853) is accepted by it, and all are rejected with the guard; of
// CVE-2025-57052 no crash was seen. Running them found what no
// compiler could: a field at another offset, the function beside the right one, and a
// result at which the caller asks again for ever. Eight are here; their cases are in
// cases_built_test.go.
//
// The names of functions, the CVEs and the advisories are real. Of the others the
// offsets in mirror structs are those of one build at best, and nobody has run them
// against the programs: a prepatch that may be inserted is in the catalogue
// (prepatches), with its tests. These here are for the tests of this package.
package cves
