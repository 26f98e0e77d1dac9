package jit

import "encoding/binary"

// The memory a placed guard shares with PIE: a control block PIE writes and the
// guard reads, counters and an event ring the guard writes and PIE reads. All
// fields are little-endian and naturally aligned.

// Offsets in the control block: one a guard, private to the process, rw-.
// A fresh block is all zeros but for what the inserter sets: mode, trial, clock.
const (
	// ControlMode is a u32 Mode, read once a call.
	ControlMode = 0
	// ControlTripped is a u32 Trip: why the guard turned itself off.
	ControlTripped = 4
	// ControlTrialEnd is a u64 TSC value at which a trial ends; 0 for no trial.
	ControlTrialEnd = 8
	// ControlMaxReject is a u32: rejects per 65,536 calls above which a trial
	// trips; 0 for no limit. The counters are shared: a hostile process among
	// those that share them can make a trial trip early, never last longer.
	ControlMaxReject = 16
	// ControlCalls0 and ControlRejects0 are u64 sums when the
	// trial began: the share is of what came since.
	ControlCalls0   = 24
	ControlRejects0 = 32
	// The clock of bpf.HelperNow: ns = ControlClockNS + (rdtsc −
	// ControlClockTSC) × ControlClockMult / 2^32, u64 each. ControlClockMult is
	// nanoseconds per tick × 2^32.
	ControlClockTSC  = 40
	ControlClockNS   = 48
	ControlClockMult = 56

	// ControlSize is the size of a control block; it never spans two cache lines.
	ControlSize = 64
)

// Mode is what a guard does with its verdict.
type Mode uint32

// Modes, as stored at ControlMode.
const (
	ModeOff     Mode = 0 // not run, not counted
	ModeAudit   Mode = 1 // a reject is counted and written as an event, and passes
	ModeEnforce Mode = 2
)

// Trip is why a guard turned itself off during a trial.
type Trip uint32

// Reasons, as stored at ControlTripped.
const (
	TripNone      Trip = 0
	TripTrialEnd  Trip = 1 // the trial was over when a reject was due
	TripFault     Trip = 2 // a read faulted
	TripFuel      Trip = 3 // the guard ran too long
	TripMaxReject Trip = 4 // the reject share rose above ControlMaxReject
)

// TripMinCalls is how many calls a trial must have seen before a share of
// rejects means anything; below it ControlMaxReject does not trip.
const TripMinCalls = 128

// Counters, shared by every process that inherits the arena. Calls are counted
// in CallSlots words, so that threads rarely meet in a cache line (count.go), and
// only the sum over all of them has a meaning (SumCalls). The other counters are a
// word each.
const (
	CallSlots = 128

	CounterCalls   = 0                          // CallSlots × u64: calls seen while not off
	CounterRejects = CounterCalls + 8*CallSlots // calls that returned at once, went on with other arguments, or ended the process
	CounterAudited = CounterRejects + 8         // rejects and rewrites that did not happen: audit mode, or the trial was over
	CounterFaults  = CounterAudited + 8         // reads that faulted
	CounterFuel    = CounterFaults + 8          // calls that ran out of fuel
	CounterLogs    = CounterFuel + 8            // Log verdicts
	CounterLost    = CounterLogs + 8            // events not written because their slot was busy
	// CounterRefused counts the reads and writes that the kernel refused for another reason
	// than their address, as a sandbox may: each ends its call as a fault, and is counted
	// there, too.
	CounterRefused = CounterLost + 8

	// CountersSize is the size of one guard's counters, a multiple of 64 as their
	// address is.
	CountersSize = CounterRejects + 64
	// QuietCountersSize is the size of a quiet guard's counters (Layout.Quiet): one
	// word of calls, and the others behind it in their order.
	QuietCountersSize = 64
)

// CounterAt is where the counter at off stands in a guard's counters of size bytes:
// CountersSize, or QuietCountersSize.
func CounterAt(size, off int) int {
	if size >= CountersSize || off < CounterRejects {
		return off
	}
	return off - 8*(CallSlots-1)
}

// SumCalls returns how many calls one guard's counters have seen. b holds
// CountersSize bytes, or QuietCountersSize; a shorter one counts as 0.
func SumCalls(b []byte) uint64 {
	switch {
	case len(b) < QuietCountersSize:
		return 0
	case len(b) < CountersSize:
		return binary.LittleEndian.Uint64(b[CounterCalls:])
	}
	sum := uint64(0)
	for i := range CallSlots {
		sum += binary.LittleEndian.Uint64(b[CounterCalls+8*i:])
	}
	return sum
}

// The event ring: EventHead, then EventSlots slots of EventSize bytes from
// EventFirst on. A writer draws a ticket t by adding 1 to EventHead, and owns
// slot t % EventSlots while the slot's seq is t+1 with EventBusy set; it
// publishes by storing t+1. A writer that finds its slot busy drops the event
// and counts it in CounterLost, unless the owner is EventSteal tickets behind:
// then it is taken to be dead and the slot is taken over. So nobody waits, and
// a reader takes only slots whose seq is the same, and not busy, before and after
// it copied them. Ticket t is lost when its slot holds another seq. There are no
// more slots than keep the ring and the counters of the first guard in two pages.
const (
	EventHead  = 0  // u64, the next ticket
	EventFirst = 64 // offset of slot 0
	EventSlots = 104
	EventSize  = 64
	EventSteal = 4 * EventSlots
	EventBusy  = 1 << 63

	// EventsSize is the size of the ring with its head.
	EventsSize = EventFirst + EventSlots*EventSize
)

// Offsets in an event slot.
const (
	EventSeq   = 0  // u64, ticket+1; published last
	EventTSC   = 8  // u64
	EventGuard = 16 // u32, Layout.Guard
	EventKind  = 20 // u32, Kind
	EventTid   = 24 // u32, 0 where gettid(2) is not allowed
	EventCode  = 28 // u32, what the bytecode stored at bpf.FrameCode, or 0
	EventArgs  = 32 // 4 × u64, argument words 0 to 3
)

// Kind is the kind of an event.
type Kind uint32

// Kinds, as stored at EventKind.
const (
	KindReject  Kind = 1 // the call returned at once
	KindAudited Kind = 2 // a reject or rewrite that did not happen: audit mode, or the trial was over
	KindLog     Kind = 3
	KindFault   Kind = 4
	KindFuel    Kind = 5
	KindRewrite Kind = 6 // the call went on with other arguments
	KindExit    Kind = 7 // the process was ended
)
