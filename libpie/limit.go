package libpie

import "github.com/patch-integration-engine/pie/libpie/internal/state"

// Limit is what a Limiter allows. Every field is a constant, and none is left out.
type Limit struct {
	Calls   int  // so many calls of a key …
	Seconds int  // … in so many seconds, over time
	Burst   int  // so many at once
	Keys    int  // how many keys are watched at the same time
	Full    Full // what becomes of a key when there is no room for it
}

// Full is what a Limiter says of a key that it has no room for, because all the
// keys that have are being called.
type Full uint8

// What a full Limiter says.
const (
	FullAllow  Full = 1 // allowed: who brings many keys comes through
	FullRefuse Full = 2 // not allowed: who brings many keys keeps others out
)

// Limiter allows each key so many calls in a time. NewLimiter makes one:
//
//	var logins = libpie.NewLimiter[uint32](libpie.Limit{
//		Calls: 10, Seconds: 60, Burst: 20, Keys: 2000, Full: libpie.FullRefuse,
//	})
//
// A key that has not been called for as long as its calls take makes room for
// another by itself.
type Limiter[K Value] struct{ limit Limit }

// NewLimiter returns a limiter. Its limit is written as a composite literal.
func NewLimiter[K Value](l Limit) Limiter[K] { return Limiter[K]{l} }

// Allow counts a call of key k and reports whether it is within the limit. A call
// that is not does not count.
func (x *Limiter[K]) Allow(c *Call, k K) bool {
	w, seed, last := table(c, x, x.limit.Keys)
	each := uint64(x.limit.Seconds) * 1e9 / uint64(x.limit.Calls)
	return state.Allow(w, seed, last, toWord(k), uint64(c.env.Now()), each, each*uint64(x.limit.Burst), x.limit.Full == FullAllow)
}
