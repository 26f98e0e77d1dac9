// Package author writes what a prepatch begins with, from a program's debug
// information: mirrors of its structs in Go (mirror.go), and a guard for one of
// its functions with a test (guard.go). It also lays prepatches out so that
// go test can run them where this module is not (module.go).
//
// Debug information is input from an enemy. Names that come from it become Go
// identifiers or comments on one line; how much is written is bounded; whether the
// result means what the program does is for its author to see: pie compares
// mirrors with the program again when the guard is inserted.
package author
