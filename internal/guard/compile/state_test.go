package compile

import (
	"fmt"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Every operation on tables of every size can be proven.
func TestStateOfEverySizeVerifies(t *testing.T) {
	for _, keys := range []int{1, 8, 9, 100, 500, 1000, 2000, 2700} {
		text := fmt.Sprintf(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id X

var (
	table  = libpie.NewMap[int64, int32](%[1]d)
	mine   = libpie.NewPerThread[uint16](%[2]d)
	limit  = libpie.NewLimiter[libpie.Addr](libpie.Limit{Calls: 10, Seconds: 60, Burst: 20, Keys: %[2]d, Full: libpie.FullRefuse})
	events libpie.Counter
)

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func All(c *libpie.Call, key int64, conn libpie.Addr) libpie.Verdict {
	n, ok := table.Add(c, key, 1)
	if !ok || n > 2 {
		return libpie.Reject(int64(-n))
	}
	if mine.Add(c, 3) > 30 || mine.Get(c) == 7 {
		mine.Set(c, 0)
		table.Delete(c, key)
	}
	if !limit.Allow(c, conn) || events.Add(c, 1) > 1000 {
		return libpie.Reject(int64(-1))
	}
	if v, found := table.Get(c, key+1); found && table.Put(c, key, v) {
		return libpie.Log(1)
	}
	return libpie.Pass()
}

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Looping(c *libpie.Call, a libpie.Addr, n uint32) libpie.Verdict {
	for i := uint32(0); i < n; i++ {
		if sum, ok := table.Add(c, *libpie.At[int64](a + libpie.Addr(8*i)), 1); !ok || sum > 9 {
			return libpie.Reject(sum)
		}
	}
	return libpie.Pass()
}
`, keys, max(keys/100, 1))
		files := map[string][]byte{"guard.go": []byte(text)}
		p, err := source.ParseFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Compile(p, files)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range c.Guards {
			v, err := verify.Verify(g.Unit)
			if err != nil {
				t.Errorf("%d keys: %v", keys, err)
				continue
			}
			// What a table costs is bounded, whoever else uses it.
			if cost := v.Cost(); g.Name == "All" && (cost.FuelCap || cost.Ns > 5000) {
				t.Errorf("%d keys: %s costs %+v", keys, g.Name, cost)
			}
		}
	}
}
