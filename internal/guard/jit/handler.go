package jit

import "github.com/patch-integration-engine/pie/internal/address"

// The fault block: what the signal handler of table mode reads, in the private
// state page of the arena. All fields are u64 unless said otherwise.
const (
	FaultsTable = 0 // address of the table, ascending FaultEntry records
	FaultsCount = 8 // how many records
	// FaultsOldSEGV and FaultsOldBUS hold the dispositions the program had, as
	// the kernel's struct sigaction: handler, flags, restorer, mask.
	FaultsOldSEGV = 16
	FaultsOldBUS  = 48
	// FaultsSize is the size of the fault block.
	FaultsSize = 80

	// FaultEntrySize is the size of a table record: u64 start, u32 length, i32
	// landing relative to start.
	FaultEntrySize = 16
)

// HandlerLayout is where the handler of table mode goes and what it reads.
type HandlerLayout struct {
	Code   address.Addr // where the blob goes, 16-byte aligned
	Faults address.Addr // the fault block, within 2 GiB of Code
}
