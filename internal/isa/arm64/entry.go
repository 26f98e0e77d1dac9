package arm64

import "github.com/patch-integration-engine/pie/internal/address"

// maxWalk bounds how many instructions ReadAtEntry looks at.
const maxWalk = 4096

// ReadAtEntry returns the registers that a function's own instructions read, on
// some path from its first instruction, before they write them. Behind a call nothing
// is looked at for the registers that calls change; what leaves the function reads
// nothing.
func ReadAtEntry(code []byte) RegSet {
	type path struct {
		off   int
		asked RegSet // registers not written yet
	}
	const (
		all       = RegSet(1<<31 - 1)
		preserved = RegSet(0x3ff80000) // x19 to x29 (AAPCS64, 6.1.1)
	)
	seen := map[int]RegSet{}
	ahead := []path{{0, all}}
	read := RegSet(0)
	for steps := 0; len(ahead) > 0 && steps < maxWalk; steps++ {
		p := ahead[len(ahead)-1]
		ahead = ahead[:len(ahead)-1]
		asked := p.asked &^ read &^ seen[p.off]
		if asked == 0 || p.off < 0 || p.off >= len(code) {
			continue
		}
		seen[p.off] |= asked
		in, ok := Decode(code[p.off:], address.Addr(p.off))
		if !ok {
			continue
		}
		read |= asked & in.Reads
		asked &^= in.Writes
		next := path{p.off + Size, asked}
		switch in.Flow {
		case FlowNext:
			ahead = append(ahead, next)
		case FlowCall, FlowIndirectCall:
			next.asked &= preserved
			ahead = append(ahead, next)
		case FlowCond:
			ahead = append(ahead, next, path{int(in.Target), asked})
		case FlowJump:
			ahead = append(ahead, path{int(in.Target), asked})
		}
	}
	return read
}
