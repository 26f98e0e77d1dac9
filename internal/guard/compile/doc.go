// Package compile turns the guards of a prepatch, ordinary Go functions, into
// bytecode.
//
// Only text comes in: go/parser and go/types check the files against the
// embedded source of libpie, go/ssa brings each guard into single-assignment
// form, and this package does the rest. No Go toolchain, network or file is
// needed, on any machine.
package compile
