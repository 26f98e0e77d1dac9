package arena

// Sizes of what the shared region holds; jit emits the code that counts and
// writes events, so they are its numbers.
const (
	shards     = 8
	shardSize  = 64
	eventSlots = 256
	eventSize  = 64
	ringHead   = 64
)
