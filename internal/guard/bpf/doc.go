// Package bpf is the bytecode of guards: eBPF as RFC 9669 defines it, and the
// frame, verdicts and helpers that PIE adds.
package bpf
