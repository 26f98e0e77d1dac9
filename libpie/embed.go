package libpie

import "embed"

// Source is the text of this package, against which pie type-checks guards on
// machines that have no Go toolchain. A guard has no use for it.
//
//go:embed addr.go call.go errno.go golang.go invoke.go limit.go mem.go state.go verdict.go write.go internal/words/words.go internal/state/limit.go internal/state/table.go internal/state/thread.go
var Source embed.FS

// Module is the source of this package and of libpietest, which pie test lays
// out for go test. A guard has no use for it.
//
//go:embed *.go c internal libpietest
var Module embed.FS

// Header is libpie.h, for guards in C.
//
//go:embed c/libpie.h
var Header []byte
