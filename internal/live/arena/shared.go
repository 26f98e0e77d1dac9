package arena

import "github.com/patch-integration-engine/pie/internal/guard/jit"

// Sizes of what the shared region holds. The code that jit emits counts there
// and writes events, so they are jit's numbers.
const (
	shards     = 1 // jit spreads calls over words of its own
	shardSize  = jit.CountersSize
	eventSlots = jit.EventSlots
	eventSize  = jit.EventSize
	ringHead   = jit.EventFirst
)
