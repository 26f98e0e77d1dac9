package corpus

import "github.com/patch-integration-engine/pie/libpie"

// Guards whose variables need more than 512 bytes of stack together, but not at once.

//pie:id corpus

// drawn fills an array of 240 bytes and looks at two places of it.
func drawn(x uint32, at uint8) uint32 {
	var t [60]uint32
	for i := range uint32(60) {
		t[i] = x*i + t[(i+59)%60]
	}
	return t[at%60] ^ t[at/4%60]
}

// SharedSlots has four such arrays, one after the other.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func SharedSlots(_ *libpie.Call, x uint32, n uint8) libpie.Verdict {
	sum := drawn(x, n)
	if n > 100 {
		sum += drawn(sum, n*3)
	} else {
		sum ^= drawn(x+1, n+7)
	}
	return libpie.Reject(sum + drawn(sum, n^0x55))
}

// KeptSlots has arrays that live through rounds in which others come and go; those begin
// empty each round.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func KeptSlots(_ *libpie.Call, x int32, n uint8) libpie.Verdict {
	var kept [16]int32
	var bytes [24]uint8
	for i := range uint8(6) {
		var round [40]int16
		round[(n+i)%40] += int16(x) >> (i & 3)
		if n>>i&1 == 1 {
			var inner [20]int64
			inner[(n^i)%20] = int64(x) * int64(kept[i])
			inner[n%20]++
			kept[(i+1)&15] += int32(inner[(n+1)%20]) + int32(round[n%40])
			continue
		}
		var other [5]uint64
		other[n%5] = uint64(bytes[i]) + 3
		bytes[(n+i)%24] += uint8(other[(n+1)%5]) + uint8(round[(n+i)%40])
		kept[i&15] -= int32(other[n%5]) - int32(bytes[n%24])
	}
	return libpie.Reject(kept[n&15] ^ int32(bytes[n%24])<<20 ^ kept[(n+3)&15]*5)
}
