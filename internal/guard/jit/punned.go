package jit

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// A punned jump replaces one instruction that is shorter than a jump and not a byte of the
// ones behind it: those are the upper bytes of its displacement, whatever they are
// (instruction punning: Chamith and others, PLDI 2017). So they say roughly where it
// leads, and that is where memory for it is mapped. Prefixes that the processor
// ignores ahead of a jump (Intel SDM vol. 2, 2.2.1.2: REX.W of a near jump, whose size is
// 64 bits anyway) shift which bytes they are.

// MaxPrefixes is the most prefixes of a punned jump.
const MaxPrefixes = 3

// MaxPunned is the most bytes that a punned jump takes.
const MaxPunned = MaxPrefixes + jmpSize

const rexW = 0x48

// Pun is one way to write a jump over the first instruction of a site.
type Pun struct {
	Prefixes int
	end      address.Addr // behind the jump, where its displacement counts from
	fixed    uint32       // the bits of the displacement that stay as they are
	value    uint32       // those bits
}

// Puns are the ways to jump from at over code, of which the first n bytes are the
// instruction to be replaced. unused reports of a byte behind it that nothing reads it.
func Puns(at address.Addr, code []byte, n int, unused func(off int) bool) []Pun {
	var all []Pun
	for k := range min(n, MaxPrefixes+1) {
		if k+jmpSize > len(code) {
			break
		}
		p := Pun{Prefixes: k, end: at.Add(int64(k) + jmpSize)}
		for i, b := range code[k+1 : k+jmpSize] {
			if off := k + 1 + i; off >= n && !unused(off) {
				p.fixed |= 0xff << (8 * i)
				p.value |= uint32(b) << (8 * i)
			}
		}
		all = append(all, p)
	}
	return all
}

// sign turns a displacement into a number that grows with the address it leads to.
const sign = 1 << 31

// Next returns the lowest address from from on that the jump can lead to.
func (p Pun) Next(from address.Addr) (address.Addr, bool) {
	lowest, highest := int64(p.end)-sign, int64(p.end)+sign-1
	if int64(from) > highest || highest < 0 {
		return 0, false
	}
	u := uint32(max(int64(from), lowest, 0) - lowest)
	value := p.value ^ sign&p.fixed
	u, ok := nextMatch(u, p.fixed, value)
	return address.Addr(lowest + int64(u)), ok
}

// nextMatch returns the least number from u on that has value in its fixed bytes.
func nextMatch(u, fixed, value uint32) (uint32, bool) {
	for i := 3; i >= 0; i-- { // the highest byte in which u cannot stay
		shift := 8 * i
		want, is := value>>shift&0xff, u>>shift&0xff
		if fixed>>shift&0xff == 0 || want == is {
			continue
		}
		below := uint32(1)<<(shift+8) - 1 // this byte and those under it
		if want > is {
			return u&^below | value&below, true
		}
		for j := i + 1; j < 4; j++ { // it must grow in a free byte above
			if fixed>>(8*j)&0xff == 0 && u>>(8*j)&0xff != 0xff {
				under := uint32(1)<<(8*j) - 1
				return u&^under + 1<<(8*j) | value&under, true
			}
		}
		return 0, false
	}
	return u, true
}

// Write returns code with the jump to to over its first bytes.
func (p Pun) Write(code []byte, to address.Addr) ([]byte, error) {
	d := int64(to - p.end)
	if d != int64(int32(d)) || uint32(d)&p.fixed != p.value || len(code) < p.Prefixes+jmpSize {
		return nil, fmt.Errorf("punned jump to %v: %w", to, errJumpReach)
	}
	b := slices.Clone(code)
	for i := range p.Prefixes {
		b[i] = rexW
	}
	b[p.Prefixes] = jmpRel32
	binary.LittleEndian.PutUint32(b[p.Prefixes+1:], uint32(d))
	return b, nil
}

// ReadPunned returns where the punned jump leads that b, the bytes at at, begins with.
func ReadPunned(at address.Addr, b []byte) (to address.Addr, ok bool) {
	k := 0
	for k < MaxPrefixes && k < len(b) && b[k] == rexW {
		k++
	}
	if len(b) < k+jmpSize {
		return 0, false
	}
	end := k + jmpSize
	return ReadJump(at.Add(int64(k)), b[k:end])
}
