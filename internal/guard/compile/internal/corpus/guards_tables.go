package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

// kinds says of the low bytes what they are: most are nothing.
var kinds = [128]uint8{'\t': 1, ' ': 1, '0': 2, '1': 2, '9': 2, 'a': 3, 'f': 3, '/': 1 << 7}

type rule struct {
	code   uint8
	signed int16
	least  int64
	always bool
	bytes  [3]uint8
}

var (
	rules = [...]rule{
		{1, -3, 10, true, [3]uint8{1, 2, 3}},
		{code: 7, least: -1 << 40, bytes: [3]uint8{2: 9}},
		3: {signed: 1<<15 - 1, always: true},
	}
	steps, masks = [4]int32{-1, 1 << 20, 3, -1 << 31}, [2][2]uint64{{1<<64 - 1, 2}, {1: 1 << 63}}
)

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ByteTable(c *libpie.Call, a uint8, i int32) libpie.Verdict {
	n := int64(kinds[a&127]) + int64(kinds['/'])
	if i < 200 {
		n += int64(kinds[i]) // faults where there is none
	}
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func StructTable(c *libpie.Call, i uint8, k uint16) libpie.Verdict {
	r := &rules[i&3]
	n := r.least + int64(r.signed) + int64(r.bytes[k%3])
	if r.always {
		n ^= int64(r.code)
	}
	copied := rules[1]
	copied.code += i
	return libpie.Reject(n + int64(copied.code) + int64(masks[i&1][k&1]))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func TableRange(c *libpie.Call, x int64) libpie.Verdict {
	n := int64(0)
	for i, s := range steps {
		if x > int64(s) {
			n += int64(i+1) * int64(s)
		}
	}
	for i := range rules {
		n += rules[i].least & x
	}
	own := steps
	own[x&3] = 5
	return libpie.Reject(n + int64(own[0]) + sumOf(&masks, int(x&1)))
}

func sumOf(t *[2][2]uint64, i int) int64 { return int64(t[i][0] + t[1-i][1]) }
