package pie_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// What another instance of PIE is in the middle of is not told as left half-done, or as
// somebody's change: who asks is answered when it is done.
func TestStatusWaitsForAChange(t *testing.T) {
	v := startVictims(t, 1)[0]
	sel := pie.Pids(v.pid())
	if _, err := pie.Insert(t.Context(), loadGuard(t), sel, pie.Options{Mode: pie.ModeEnforce}); err != nil {
		t.Fatal(err)
	}
	state := func() (string, string) {
		t.Helper()
		all, err := pie.Status(t.Context(), sel)
		if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[0].Prepatches[0].State, all[0].Prepatches[0].Guards[0].Site
	}
	_, site := state()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", v.pid()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	at, err := strconv.ParseInt(strings.TrimPrefix(site, "0x"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	jump := make([]byte, 1)
	if _, err := mem.ReadAt(jump, at); err != nil {
		t.Fatal(err)
	}
	write := func(b byte) {
		if _, err := mem.WriteAt([]byte{b}, at); err != nil {
			t.Error(err)
		}
	}
	write(jump[0] ^ 1)
	if got, _ := state(); got != "altered" {
		t.Errorf("with another byte at its site it is %q", got)
	}
	other, err := tracee.Open(v.pid())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	unlock, err := other.Lock()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		time.Sleep(200 * time.Millisecond)
		write(jump[0])
		unlock()
	}()
	if got, _ := state(); got != "in" {
		t.Errorf("in the middle of a change it is %q", got)
	}
}
