package locate

import (
	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Target is a process to look into. *proc.Process is one; so is whatever pins
// the process for the insertion.
type Target interface {
	Pid() int
	Maps() ([]proc.Mapping, error)
	// ReadAt fills b from memory at a; n < len(b) comes with an error.
	ReadAt(b []byte, a address.Addr) (n int, err error)
	// RunsExe tells whether the process runs an executable, given as a path in
	// its root or as a name, by inode.
	RunsExe(exe string) (bool, error)
	// OpenExe opens the inode behind /proc/PID/exe.
	OpenExe() (*proc.File, error)
	// OpenMapped opens the inode a mapping is of.
	OpenMapped(m proc.Mapping) (*proc.File, error)
}

// Query says which function a guard is for.
type Query struct {
	// Exe restricts to processes that run this executable: a path in the
	// process's root, or a name as proc.Process.RunsExe understands it. Empty: any.
	Exe string
	// Lib is the SONAME of a library the function is in ("libc.so.6"). Empty:
	// the function is in the executable or, where Exe is empty too and the
	// executable has none of that name, in the one library that has it.
	Lib string
	// Func is the name as people write it: strdup, strdup@GLIBC_2.2.5,
	// ns::Class::method, ns::f(int), server.(*client).processPub with or without
	// its import path, and file.c:name for one of several static functions.
	Func string
	// Terse leaves NotFound.Near empty: to look for names that are like Func costs
	// more than to look for Func, and only people read it.
	Terse bool
}

// Function is a function found in a process.
type Function struct {
	Name  string
	Image *Image
	Entry address.Addr
	Vaddr address.Vaddr
	// Size is the length of the code in bytes, without padding.
	Size uint64
	// How is the evidence in words: ".dynsym strdup@@GLIBC_2.2.5".
	How string
	// Text is the file's bytes from Entry: Size bytes of code, then the padding
	// (nop, int3 or zero bytes) before the next function, where there is some.
	Text []byte
	// Go is set when the function is Go code: ABIInternal, goroutine stack.
	Go bool
	// Aliases are other names of the same address.
	Aliases []string
	// Copies are other places with (part of) the same code that a guard at Entry
	// does not see, in words: .isra, .constprop and .part clones, other versions
	// of the symbol. Without .symtab the clones have no names and are not known.
	Copies []string
	// Parts are split-off parts (.cold) that are reached through Entry only.
	Parts []string
	// Others are different functions of the same name in other source files.
	Others []string
}
