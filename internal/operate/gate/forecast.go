package gate

import (
	"slices"
	"time"
)

// An exec is held only when it is likely to be guarded in time: to hold it in vain would
// delay it, and take the time of others. The gate knows how many are ahead of it, which
// workers are free, and how long a hold takes just now. From that it reckons when the
// exec would be guarded, as for any queue with several servers.
//
// Nothing else is needed when more start than can be guarded. As many wait as the
// workers come to within the limit, the workers are never without work, and whoever
// comes beyond is let go of at once and guarded as it runs. Where others want the
// processors holds take longer, and the queue becomes shorter by itself.

// pace is how long a hold takes just now, a moving average.
type pace time.Duration

// firstPace is what a gate begins with.
const firstPace = pace(10 * time.Millisecond)

// took learns of a hold that came to its end.
func (p *pace) took(d time.Duration) { *p += (pace(d) - *p) / 8 }

// tookMoreThan learns of a hold that was broken off: it makes nothing faster.
func (p *pace) tookMoreThan(d time.Duration) { p.took(max(d, time.Duration(*p))) }

// forecast says how long after now an exec would be guarded that comes now, with so many
// waiting ahead of it. free is how long it takes until each worker that guards is free.
func (p pace) forecast(free []time.Duration, ahead int) time.Duration {
	free = slices.Clone(free)
	for range ahead {
		slices.Sort(free)
		free[0] += time.Duration(p)
	}
	return slices.Min(free) + time.Duration(p)
}
