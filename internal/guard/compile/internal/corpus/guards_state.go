package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

var (
	counted libpie.Counter
	sizes   = libpie.NewMap[libpie.Addr, int32](8)
	marks   = libpie.NewMap[int8, uint64](40)
	depth   = libpie.NewPerThread[int16](4)
	often   = libpie.NewLimiter[uint8](libpie.Limit{Calls: 2, Seconds: 3, Burst: 4, Keys: 6, Full: libpie.FullRefuse})
	seldom  = libpie.NewLimiter[bool](libpie.Limit{Calls: 1, Seconds: 86400, Burst: 2, Keys: 1, Full: libpie.FullAllow})
)

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Counts(c *libpie.Call, a uint8, n int32) libpie.Verdict {
	switch a % 4 {
	case 0:
		counted.Set(c, uint64(n))
	case 1:
		return libpie.Reject(counted.Add(c, 1))
	case 2:
		return libpie.Reject(counted.Add(c, uint64(a)<<40))
	}
	return libpie.Reject(counted.Value(c))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Maps(c *libpie.Call, a uint8, key libpie.Addr, n int32) libpie.Verdict {
	key %= 17
	switch a % 8 {
	case 0, 1, 2:
		if !sizes.Put(c, key, n) {
			return libpie.Reject(int32(-1))
		}
	case 3, 4:
		sum, ok := sizes.Add(c, key, n)
		if !ok {
			return libpie.Reject(int32(-2))
		}
		return libpie.Reject(sum)
	case 5:
		sizes.Delete(c, key)
	}
	v, found := sizes.Get(c, key)
	if !found {
		return libpie.RejectVoid()
	}
	return libpie.Reject(v)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func MapOfNumbers(c *libpie.Call, key int8, n uint64) libpie.Verdict {
	was, found := marks.Get(c, key)
	if found && was > n {
		marks.Delete(c, key)
		return libpie.Reject(was)
	}
	if !marks.Put(c, key, n) {
		return libpie.Log(3)
	}
	return keep(c, &marks, key)
}

func keep(c *libpie.Call, m *libpie.Map[int8, uint64], key int8) libpie.Verdict {
	n, _ := m.Add(c, key, 1)
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Depths(c *libpie.Call, a uint8, n int16) libpie.Verdict {
	switch a % 3 {
	case 0:
		depth.Set(c, n)
	case 1:
		return libpie.Reject(depth.Add(c, n))
	}
	return libpie.Reject(depth.Get(c))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Rates(c *libpie.Call, key uint8, flag bool) libpie.Verdict {
	n := int32(0)
	if often.Allow(c, key%12) {
		n |= 1
	}
	if seldom.Allow(c, flag) {
		n |= 2
	}
	return libpie.Reject(n)
}
