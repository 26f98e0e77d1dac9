// Package address holds the four kinds of address PIE computes with.
//
// An ELF file, the linker and a process each number the same byte differently.
// Confusing two of these numberings writes into the wrong place of somebody's
// server, so each has a type of its own and every conversion is a named method:
//
//	Addr   where the byte is in a running process
//	Vaddr  where the linker put it (p_vaddr, st_value)
//	Off    where it is in the file
//	Bias   Addr − Vaddr of one mapped image, modulo 2^64; 0 for a non-PIE executable
package address

import "fmt"

// Addr is a run-time virtual address in a process.
type Addr uint64

// Vaddr is a link-time virtual address in an ELF image.
type Vaddr uint64

// Off is an offset into a file, in bytes.
type Off uint64

// Bias is Addr − Vaddr of one mapped image, modulo 2^64.
type Bias uint64

// Addr returns where v is in the process that maps the image with bias b.
func (v Vaddr) Addr(b Bias) Addr { return Addr(uint64(v) + uint64(b)) }

// Vaddr returns where the linker put a, in the image mapped with bias b.
func (a Addr) Vaddr(b Bias) Vaddr { return Vaddr(uint64(a) - uint64(b)) }

// BiasOf returns the bias under which v is mapped at a.
func BiasOf(a Addr, v Vaddr) Bias { return Bias(uint64(a) - uint64(v)) }

// Add returns a moved by n bytes; n may be negative.
func (a Addr) Add(n int64) Addr { return Addr(uint64(a) + uint64(n)) }

// Add returns v moved by n bytes; n may be negative.
func (v Vaddr) Add(n int64) Vaddr { return Vaddr(uint64(v) + uint64(n)) }

// Page returns the start of the 4 KiB page that holds a.
func (a Addr) Page() Addr { return a &^ 0xfff }

func (a Addr) String() string  { return fmt.Sprintf("%#x", uint64(a)) }
func (v Vaddr) String() string { return fmt.Sprintf("%#x", uint64(v)) }
func (o Off) String() string   { return fmt.Sprintf("%#x", uint64(o)) }
