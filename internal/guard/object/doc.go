// Package object reads guards that were written in C: object files of
// clang -target bpf, compiled against libpie/c/libpie.h.
//
// The section .pie holds the lines of the prepatch, as //pie: lines of Go; each
// guard is a function in a section of its own, whose name is "pie " and the keys of
// //pie:guard. Both go through package source, so that nothing is allowed here that
// is refused there. cilium/ebpf reads the ELF file, follows relocations and puts
// static functions behind the guards that call them; here constants become Rodata and
// the onfault and onfuel actions are appended. What comes out is unverified
// bytecode like that of package compile: package verify proves it or not.
package object
