package state

import "github.com/patch-integration-engine/pie/libpie/internal/words"

// A limiter keeps, for each key, the time at which its calls so far would be used
// up at the allowed rate (the generic cell rate algorithm, ITU-T I.371). A time
// that has passed is as good as none, so that a slot of such a key can be taken
// for another.

// lost is how often a call tries to note itself against others of its key.
const lost = 16

// Allow counts a call of key at a time now, in ns. each is the time of one call at
// the allowed rate, most that of a burst. full is the answer when the key's row has
// no room. Of calls at once that keep losing against one another, one in lost may
// come through uncounted.
func Allow(w words.Words, seed, last, key, now, each, most uint64, full bool) bool {
	slot, ok := limited(w, seed, last, key, now, most)
	if !ok || slot > first+last*rowWords+rowWords-2 { // the second never holds: it bounds what follows
		return full
	}
	for try := 0; try < lost; try++ {
		until := words.Load(w, slot+1)
		ahead := until - now
		if ahead > most { // it has passed; or nobody who keeps to the rules wrote it
			ahead = 0
		}
		if ahead+each > most {
			return false
		}
		if words.Swap(w, slot+1, until, now+ahead+each) == until {
			return true
		}
	}
	return true
}

// limited returns the slot of a key, one that is free or idle if it had none.
func limited(w words.Words, seed, last, key, now, most uint64) (slot uint64, ok bool) {
	if key == 0 {
		return 0, true
	}
	for try := 0; try < tries; try++ {
		at := row(seed, last, key)
		spare, had := uint64(rowWords), uint64(0)
		for n := uint64(0); n < rowWords; n += 2 {
			is := words.Load(w, at+n)
			if is == key {
				return at + n, true
			}
			if spare >= rowWords && (is == 0 || words.Load(w, at+n+1)-now > most) {
				spare, had = n, is
			}
		}
		if spare >= rowWords {
			return 0, false
		}
		if was := words.Swap(w, at+spare, had, key); was == had || was == key {
			return at + spare, true
		}
	}
	return 0, false
}
