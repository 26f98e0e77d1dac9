package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

func weighed(list []int32) (sum int64) {
	for i, x := range list {
		sum = 3*sum + int64(x) + int64(i)
	}
	return sum + int64(len(list))<<20 + int64(cap(list))<<30
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Cuts(c *libpie.Call, n int32) libpie.Verdict {
	var a [6]int32
	for i := range a {
		a[i] = n + int32(i)
	}
	head, tail := a[:2], a[4:]
	tail[1]++
	more := head[1:5]
	more[3] = 7
	least := a[1:3:4]
	text := "content-length"
	return libpie.Reject(weighed(head) + 5*weighed(tail) + 7*weighed(more) + 11*weighed(least) + 13*weighed(a[:]) + int64(text[8:][n&7]) + int64(len(text[:7])))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func CutAtRunTime(c *libpie.Call, i uint8, j int8, k uint16) libpie.Verdict {
	a := [5]int32{1, -2, 3, -4, 5}
	a[k%5] = int32(k)
	if i < 8 {
		part := a[:j&7] // faults beyond 5
		part = part[i:] // … and where i is more than that
		return libpie.Reject(weighed(part))
	}
	return libpie.Reject(weighed(a[j:]))
}

type pair struct {
	small uint8
	large int64
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Wholes(c *libpie.Call, i uint8, x int64) libpie.Verdict {
	var a, b [7]pair
	for k := range a {
		a[k] = pair{i + uint8(k), x * int64(k)}
	}
	n := copy(b[1:], a[i&7:])
	clear(a[2:4])
	n += 10 * copy(a[:], b[5:])
	clear(b[:i&3])
	var text [12]byte
	n += 100 * copy(text[3:], "a long enough text")
	n += 1000 * copy(text[:i&1], "xy")
	sum := int64(n)
	for k := range a {
		sum = 5*sum + int64(a[k].small) + a[k].large - int64(b[k].small) + 3*b[k].large
	}
	for _, t := range text {
		sum = 7*sum + int64(t)
	}
	return libpie.Reject(sum)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Overlaps(c *libpie.Call, x int32) libpie.Verdict {
	a := [6]int32{x, 2, 3, 4, 5, x}
	copy(a[1:], a[:4])
	down := a
	copy(down[:3], down[2:])
	return libpie.Reject(weighed(a[:]) + 17*weighed(down[:]))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Runes(c *libpie.Call, x int32) libpie.Verdict {
	sum := int64(x)
	for i, r := range "aß€😀\xffz" {
		sum = 31*sum + int64(i)*int64(r)
		if r == '€' && x > 3 {
			break
		}
	}
	return libpie.Reject(sum)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Jumps(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m := c.Bytes(a, int(n&31))
	at, sum := 0, int64(0)
next:
	if at >= m.Len() {
		goto out
	}
	switch b := m.At(at); {
	case b == 'a':
		at += 2
		goto next
	case b > 0x7f:
		sum = -1
		goto out
	default:
		sum += int64(b)
	}
	at++
	goto next
out:
	return libpie.Reject(sum + int64(at))
}

// JumpsIntoLoop has a loop with two ways in.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func JumpsIntoLoop(c *libpie.Call, x uint8, y int32) libpie.Verdict {
	n, rounds := int32(x), int32(0)
	if y > 0 {
		goto odd
	}
even:
	n--
	rounds += 3
	if n <= 0 {
		goto done
	}
odd:
	n -= 2
	rounds++
	if n > 0 {
		goto even
	}
done:
	return libpie.Reject(rounds*8 + n)
}
