package arena

import "github.com/patch-integration-engine/pie/internal/guard/jit"

// Sizes of what the shared region holds. The code that jit emits counts there
// and writes events, so they are jit's numbers.
const (
	shards     = jit.Shards
	shardSize  = jit.ShardSize
	eventSlots = jit.EventSlots
	eventSize  = jit.EventSize
	ringHead   = jit.EventFirst
)
