package hosts

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// A process that fights back while commands are at work on it: it moves, unmaps and overwrites
// PIE's memory, forks, replaces itself, stops itself. Every command ends in time, whatever it
// says, and a bystander that runs the same program is as it was.
func TestFightingProcess(t *testing.T) {
	lasts := 5 * time.Second
	if os.Getenv("PIE_TEST_LONG") != "" {
		lasts = 4 * time.Minute
	}
	rnd := rand.New(rand.NewPCG(*hostileSeed, 3))
	path := build(t, "hostile", "gcc", "-pthread", "hostile.c", "guarded.c")
	peaceful := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	bystander := start(t, nil, peaceful, "", "1")
	bystander.insert(guard(t, "HOST-1", exeOf(peaceful)))
	ended, hosts := map[string]int{}, 0
	for begin := time.Now(); time.Since(begin) < lasts; {
		h := start(t, &syscall.SysProcAttr{Setpgid: true}, path, strconv.Itoa(rnd.IntN(1000)))
		hosts++
		note := func(name string, err error) {
			what := outcome(err)
			if ended[name+" "+what]++; what == "error" {
				t.Logf("%s: %v", name, err)
			}
		}
		for n := 0; n < 12 && time.Since(begin) < lasts && !h.isZombie(); n++ {
			_, err := pie.Insert(h.context(), p, pie.Pids(h.pid()), pie.Options{Mode: pie.ModeEnforce, Build: "test"})
			note("insert", err)
			note(command(t, rnd, p, h.pid()))
			_ = unix.Kill(h.pid(), unix.SIGCONT)
		}
		_ = unix.Kill(-h.pid(), unix.SIGKILL) // its children, too
		_ = h.cmd.Wait()
	}
	t.Logf("%d hosts: %v", hosts, ended)
	bystander.guarded()
	bystander.remove(p.ID)
	bystander.asItsFiles()
}

// isZombie tells that the program has ended, and waits to be waited for.
func (h *host) isZombie() bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid()))
	return err != nil || strings.Contains(string(text), ") Z ")
}
