package fingerprint

import (
	"math/rand/v2"
	"testing"
)

// What is passed over eight bytes at a time has no call in it.
func TestNextCallMissesNone(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	likely := []byte{0xe8, 0xe9, 0xff, 0x15, 0x25, 0x05, 0x35, 0xe7, 0xea, 0xfe, 0x00, 0x01, 0x80, 0x69}
	for range 200_000 {
		var b [8]byte
		eight := uint64(0)
		for i := range b {
			b[i] = likely[rng.IntN(len(likely))]
			eight |= uint64(b[i]) << (8 * i)
		}
		for _, slots := range []bool{false, true} {
			want := 8
			for i := 7; i >= 0; i-- {
				indirect := b[i] == 0xff && (i == 7 || b[i+1] == 0x15 || b[i+1] == 0x25)
				if b[i]&0xfe == 0xe8 || slots && indirect {
					want = i
				}
			}
			if got := nextCall(eight, slots); got > want {
				t.Fatalf("% x, slots %v: got %d, the first is at %d", b, slots, got, want)
			}
		}
	}
}
