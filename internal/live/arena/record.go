package arena

import (
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
)

// State is how far a guard or prepatch has come.
type State uint8

// States, in the order a guard goes through them.
const (
	Free     State = iota // the record is unused
	Prepared              // code and records stand; the site is untouched
	In                    // the site was written
	Leaving               // removal has begun; the site's bytes say how far it got
)

func (s State) String() string {
	switch s {
	case Free:
		return "free"
	case Prepared:
		return "prepared"
	case In:
		return "in"
	case Leaving:
		return "leaving"
	}
	return "unknown"
}

// SlotState is whether a range of code is in use.
type SlotState uint8

// States of a slot.
const (
	SlotFree        SlotState = iota // nothing can be running there
	SlotUsed                         // a guard record refers to it
	SlotQuarantined                  // unlinked, but a thread may still be in it
	SlotReused                       // used, and quarantined before
)

// SlotKind is what stands in a slot.
type SlotKind uint8

// Kinds of slot.
const (
	SlotGuard    SlotKind = iota // a guard's block
	SlotHandler                  // table mode's signal handler
	SlotTable                    // table mode's table of instructions that may fault
	SlotCaller                   // a guard's block that calls functions: a return address into it may stand on any stack, for ever
	SlotEntrance                 // a jump to the first guard of a site whose own jump is a punned one
)

// Key identifies what stands in a slot: the same program on the same site has
// the same key, and finds its slot again.
type Key [16]byte

// Slot is a range of the code region.
type Slot struct {
	Key     Key
	Start   uint32 // offset in the code region, a multiple of Granule
	Size    uint32 // bytes, a multiple of Granule
	Kind    SlotKind
	State   SlotState
	Content uint64 // hash of the bytes that were written

	was SlotState // before Allot took it
}

// Prepatch is one prepatch in the arena.
type Prepatch struct {
	State    State
	ID       string // at most 47 bytes
	Hash     [32]byte
	Inserted time.Time
	Guards   int // guards it has in this arena
	Flags    Flags
}

// Flags are how a prepatch was inserted.
type Flags uint16

// Flags of a prepatch.
const (
	FlagAudit    Flags = 1 << iota // inserted to count only
	FlagTrial                      // inserted with a trial's end
	FlagPartial                    // inserted although copies are not covered
	FlagKept                       // the trial was ended by keep
	FlagRewrites                   // what it may do, as bpf.Caps: change arguments
	FlagWrites                     // write the program's memory
	FlagCalls                      // call the program's functions
	FlagExits                      // end the process
	FlagEarly                      // inserted before the first instruction of its program
)

// Image identifies the file that a site is in.
type Image struct {
	Name    string // base name, at most 31 bytes: for people, never opened
	Dev     uint64 // st_dev, as in maps
	Inode   uint64
	BuildID []byte // GNU build ID, at most 32 bytes; empty where there is none
}

// Counts are the sums of one guard's shards, or a guard's own share of them.
type Counts struct {
	Calls, Rejects, Audited, Faults, Fuel, Logs uint64
	Refused                                     uint64 // in a guard's base no more than MaxRefused
}

// MaxRefused is the most that a guard's record holds of Counts.Refused. From there on it is
// not told how many are the guard's own.
const MaxRefused = 1<<16 - 1

// Vacated is the end of the bytes from Site on in which no thread is while the guard is in.
// Behind a punned jump instructions of the function go on.
func (g *Guard) Vacated() address.Addr {
	if g.Inner > 0 {
		return g.Site.Add(int64(g.Inner))
	}
	return g.Site.Add(int64(len(g.Original)))
}

// Guard is one guard on one site. Its index in Arena.Guards is also that of
// its control block, of its counters, and the number in its events.
type Guard struct {
	State      State
	Prepatch   int // index in Arena.Prepatches
	Order      int // place among the guards of one site, 0 first
	Function   string
	Image      Image
	Site       address.Addr
	SiteOff    address.Off // of the site in the image's file
	Original   []byte      // as in the file, before
	Patch      []byte      // what leads to this guard when it is the site's first; as long as Original
	Inner      int         // a punned jump: bytes from Site on that it replaces, one instruction; 0: all of Original
	Slot       int         // index in Arena.Slots
	Body, Link int         // jit.Code's: offsets in the slot
	FaultMode  uint8       // jit.FaultMode
	Base       Counts      // the counters at insertion: a reused index starts at them
}

// Handler is table mode's signal handler: one a process, however many arenas
// it has. It is there when its block names a table, which is written after the
// handler's code and before it is installed; then it stays, for the program may
// have kept its address.
type Handler struct {
	Slot  int    // −1 when none was allotted
	Block []byte // jit's fault block, as it was when the arena was read
}

func refused(now, base uint64) uint64 {
	if base >= MaxRefused {
		return 0
	}
	return now - min(now, base)
}

// Sub returns c less what was there before. Counters are claims, so that none
// of them goes below 0.
func (c Counts) Sub(base Counts) Counts {
	less := func(a, b uint64) uint64 { return a - min(a, b) }
	return Counts{
		Calls: less(c.Calls, base.Calls), Rejects: less(c.Rejects, base.Rejects), Audited: less(c.Audited, base.Audited),
		Faults: less(c.Faults, base.Faults), Fuel: less(c.Fuel, base.Fuel), Logs: less(c.Logs, base.Logs),
		Refused: refused(c.Refused, base.Refused),
	}
}
