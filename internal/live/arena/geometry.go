package arena

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// Sizes of the three regions, in bytes, in order from the arena's base.
const (
	CodeSize   = 64 << 10
	StateSize  = 8 << 10
	SharedSize = 32 << 10
	// Span is the whole arena.
	Span = CodeSize + StateSize + SharedSize
)

// Granule is the unit and alignment of code slots, in bytes: a cache line, since a
// guard that lies in one is fetched faster than one that spans two.
const Granule = 64

// Limits of one arena as this build makes it.
const (
	MaxGuards     = 16
	MaxPrepatches = 11
	MaxSlots      = 48
	// MaxPatch is the most bytes a site may have.
	MaxPatch = 24
	// MaxID is the most bytes the id of a prepatch may have.
	MaxID = 47
)

// Sizes of a record, in bytes, and where the tables stand in the state region.
// The first insertion touches the first page only.
const (
	headerSize   = 192
	controlSize  = jit.ControlSize
	slotSize     = 32
	prepatchSize = 96
	guardSize    = 256
	handlerSize  = 192 // the record, jit's fault block, room for two struct sigaction

	controlOff  = headerSize
	slotOff     = controlOff + MaxGuards*controlSize
	prepatchOff = slotOff + MaxSlots*slotSize
	guardOff    = 3840
	handlerOff  = guardOff + MaxGuards*guardSize
)

// Reach is how far a rel32 branch gets, less a margin for the instruction.
const Reach = 1<<31 - 1<<16

// Range is a half-open range of addresses.
type Range struct{ Start, End address.Addr }

// Contains reports whether a lies in r.
func (r Range) Contains(a address.Addr) bool { return r.Start <= a && a < r.End }

// Overlaps reports whether r and o share a byte.
func (r Range) Overlaps(o Range) bool { return r.Start < o.End && o.Start < r.End }

// ErrNoGap means that no free range lies within reach of an image.
var ErrNoGap = errors.New("no free address range within 2 GiB of the image")

// guardGap is left free around an arena, so that the kernel never merges one
// of its regions with a neighbour's and a stack or heap can still grow a bit.
const guardGap = 64 << 10

// lowest is the lowest address an arena takes; below lie the addresses that
// guards treat as NULL plus an offset (64 KiB) and vm.mmap_min_addr.
const lowest = 1 << 20

// highest is the end of the addresses that a process has with four levels of page tables.
const highest = 1<<47 - 4096

// Gap finds where an arena fits: free, page-aligned, and so that every byte of the arena
// and of the image reach each other. It lies below the image (the heap grows upwards
// from the executable) and above it only where all below is taken, as beside the
// reservations of a JavaScript engine. used may be unsorted; it must hold every mapping
// of the process, and what the heap is to grow into.
func Gap(used []Range, image Range) (address.Addr, error) { return gap(used, image, Span) }

// gap is Gap for span bytes.
func gap(used []Range, image Range, span address.Addr) (address.Addr, error) {
	if image.End <= image.Start || uint64(image.End-image.Start) >= Reach {
		return 0, fmt.Errorf("image %v-%v: %w", image.Start, image.End, ErrNoGap)
	}
	floor := address.Addr(lowest)
	if image.End > Reach+lowest {
		floor = image.End - Reach
	}
	top := image.Start // candidate end of the gap, moving down
	for top >= floor+span+2*guardGap {
		base := (top - guardGap - span).Page()
		want := Range{base - guardGap, base + span + guardGap}
		hit, ok := lowestOverlap(used, want)
		if !ok {
			return base, nil
		}
		top = hit.Start
	}
	for base := pageUp(image.End + guardGap); reachesAll(base, span, image) && base+span+guardGap <= highest; {
		hit, ok := highestOverlap(used, Range{base - guardGap, base + span + guardGap})
		if !ok {
			return base, nil
		}
		base = pageUp(hit.End + guardGap)
	}
	return 0, fmt.Errorf("image %v-%v: %w", image.Start, image.End, ErrNoGap)
}

// lowestOverlap returns the mapping with the lowest start that overlaps want.
func lowestOverlap(used []Range, want Range) (Range, bool) {
	var low Range
	found := false
	for _, u := range used {
		if u.Overlaps(want) && (!found || u.Start < low.Start) {
			low, found = u, true
		}
	}
	return low, found
}

// pageUp returns the first page boundary behind a.
func pageUp(a address.Addr) address.Addr { return (a + 4095).Page() }

// highestOverlap returns the mapping with the highest end that overlaps want.
func highestOverlap(used []Range, want Range) (Range, bool) {
	var high Range
	found := false
	for _, u := range used {
		if u.Overlaps(want) && u.End > high.End {
			high, found = u, true
		}
	}
	return high, found
}

// reaches reports whether a branch reaches from anywhere in an arena at base
// to anywhere in image, and back.
func reaches(base address.Addr, image Range) bool { return reachesAll(base, Span, image) }

// reachesAll is reaches for span bytes at base.
func reachesAll(base, span address.Addr, image Range) bool {
	low, high := min(base, image.Start), max(base+span, image.End)
	return uint64(high-low) < Reach
}
