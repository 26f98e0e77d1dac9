package insert

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Insertions and removals under load, two hundred or ten thousand: every result is right,
// and nothing grows, neither in the target nor in who inserts: the program finds its arena,
// slot and record again, and the last cycle takes no longer than the first.
//
// Who inserts is a process of its own. On a busy machine its watchdog may end it in the
// middle of a cycle: then another one repairs and goes on, and nothing has grown by that.
func TestCycles(t *testing.T) {
	v := startVictim(t, "3", "0", "500")
	cycles := 200
	if fullSweep {
		cycles = 10000
	}
	var by *cycler
	var theirs holding
	longest, ended, from, began := time.Duration(0), 0, v.read(t).Calls, time.Now()
	for i := 0; i < cycles; {
		if by == nil {
			by = v.startCycler(t)
		}
		pause, ok := by.cycle(t)
		if !ok {
			by = nil
			if ended++; ended > 3+cycles/100 {
				t.Fatalf("%d pies were ended by their watchdogs in %d cycles: the machine is too busy", ended, i)
			}
			continue
		}
		longest = max(longest, pause)
		if i++; i == warmCycles {
			theirs = held(t, v.pid)
		}
		if i%1000 == 0 { // a long run that is ended early has said how far it came
			v.progress(t, slow)
			theirs.mustNotHaveGrown(t, v.pid, 0, 16)
			t.Logf("%d cycles raced by %d calls, %v each; longest pause %v; %d pies ended by their watchdogs",
				i, v.read(t).Calls-from, time.Since(began)/1000, longest, ended)
			began = time.Now()
		}
	}
	calls := v.read(t).Calls - from
	by.end(t)
	v.progress(t, slow)
	if arenas, err := observe.Arenas(v.p); err != nil || len(arenas) != 2 {
		t.Errorf("%d arenas, %v", len(arenas), err)
	}
	textEqualsFile(t, v.p)
	theirs.mustNotHaveGrown(t, v.pid, 0, 16)
	t.Logf("%d cycles raced by %d calls; longest pause %v; %d pies ended by their watchdogs", cycles, calls, longest, ended)
}

// warmCycles is after how many cycles whatever is made once has been made.
const warmCycles = 20

// cyclerName makes the test binary a pie that inserts and removes again and again:
//
//	insert.test cycler PID FUNCTION…
//
// It repairs what there is to repair; then, for each line that it reads, it makes a cycle and
// says "PAUSE PLACE MAPPINGS DESCRIPTORS KB": the longest pause in nanoseconds, where the
// first guard lay, and what it holds itself.
const cyclerName = "cycler"

func beCycler(args []string) error {
	var n []uint64
	for _, a := range args {
		v, err := strconv.ParseUint(a, 0, 64)
		if err != nil {
			return err
		}
		n = append(n, v)
	}
	var functions []address.Addr
	for _, f := range n[1:] {
		functions = append(functions, address.Addr(f))
	}
	tr, err := tracee.NewTracer(tracee.Options{})
	if err != nil {
		return err
	}
	defer tr.Close()
	p, err := tracee.Open(int(n[0]))
	if err != nil {
		return err
	}
	defer p.Close()
	if err := settle(context.Background(), tr, p, settleOut, functions...); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := oneCycle(tr, p, functions); err != nil {
			return err
		}
	}
	return nil
}

func oneCycle(tr *tracee.Tracer, p *tracee.Process, functions []address.Addr) error {
	ctx, cancel := context.WithTimeout(context.Background(), slow)
	defer cancel()
	pp, err := tryHandMade(p, "S-1", functions...)
	if err != nil {
		return err
	}
	in, err := insertGuards(ctx, tr, p, pp, Options{Mode: jit.ModeEnforce})
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	out, err := Remove(ctx, tr, p, "S-1", nil)
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	h, err := holdingOf(os.Getpid())
	if err != nil {
		return err
	}
	place := pp.guards[0].Place
	fmt.Printf("%d %v/%d %d %d %d\n", max(in.Pause, out.Pause), place.Code, place.Index, h.mappings, h.fds, h.anonymousKB)
	return nil
}

// cycler is the test's side of one.
type cycler struct {
	cmd         *exec.Cmd
	in          io.WriteCloser
	out         *bufio.Reader
	errs        strings.Builder
	cycles      int
	place       string
	first, last holding // when it was warm, and at its last cycle
}

func (v *victim) startCycler(t *testing.T) *cycler {
	t.Helper()
	program, err := spyBinary()
	must(t, err)
	c := &cycler{cmd: exec.Command(program, append([]string{cyclerName}, v.numbers()...)...)}
	c.cmd.Stderr, c.cmd.WaitDelay = &c.errs, 10*time.Second
	c.in, err = c.cmd.StdinPipe()
	must(t, err)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	must(t, c.cmd.Start())
	t.Cleanup(func() {
		c.in.Close() // which ends it
		_ = c.cmd.Wait()
	})
	c.out = bufio.NewReader(out)
	return c
}

// cycle has one cycle made; not ok: its watchdog has ended it.
func (c *cycler) cycle(t *testing.T) (pause time.Duration, ok bool) {
	t.Helper()
	_, _ = c.in.Write([]byte{'\n'}) // what has ended is noticed below
	line, err := c.out.ReadString('\n')
	if err != nil {
		if err := c.cmd.Wait(); !endedBySignal(err) {
			t.Fatalf("after %d cycles: %v: %s", c.cycles, err, c.errs.String())
		}
		return 0, false
	}
	var place string
	if _, err := fmt.Sscan(line, (*int64)(&pause), &place, &c.last.mappings, &c.last.fds, &c.last.anonymousKB); err != nil {
		t.Fatalf("it says %q: %v", line, err)
	}
	switch c.cycles++; c.cycles {
	case 1:
		c.place = place
	case warmCycles:
		c.first = c.last
	}
	if place != c.place {
		t.Fatalf("cycle %d: placed at %s, before at %s", c.cycles, place, c.place)
	}
	return pause, true
}

// end ends it; it must not have grown. It is a Go program: its heap breathes.
func (c *cycler) end(t *testing.T) {
	t.Helper()
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("after %d cycles: %v: %s", c.cycles, err, c.errs.String())
	}
	if c.cycles > warmCycles && c.last.grew(c.first, 8, 16<<10) {
		t.Errorf("after %d cycles who inserts holds %+v, at first %+v", c.cycles, c.last, c.first)
	}
	t.Logf("who inserts held %+v, after %d cycles %+v", c.first, c.cycles, c.last)
}

// holding is what a process holds, and must not hold more of after many cycles.
type holding struct{ mappings, fds, anonymousKB int }

func holdingOf(pid int) (h holding, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return h, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return h, err
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return h, err
	}
	h = holding{mappings: strings.Count(string(maps), "\n"), fds: len(fds)}
	for _, line := range strings.Split(string(status), "\n") {
		var kb int
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kb); n == 1 {
			h.anonymousKB += kb
		}
		if n, _ := fmt.Sscanf(line, "RssShmem: %d kB", &kb); n == 1 {
			h.anonymousKB += kb
		}
	}
	return h, nil
}

func held(t *testing.T, pid int) holding {
	t.Helper()
	h, err := holdingOf(pid)
	must(t, err)
	return h
}

func (h holding) grew(from holding, mappings, kb int) bool {
	return h.mappings > from.mappings+mappings || h.fds > from.fds || h.anonymousKB > from.anonymousKB+kb
}

func (h holding) mustNotHaveGrown(t *testing.T, pid, mappings, kb int) {
	t.Helper()
	now := held(t, pid)
	if now.grew(h, mappings, kb) {
		t.Errorf("pid %d holds %+v, at first %+v", pid, now, h)
	}
	t.Logf("pid %d held %+v, now %+v", pid, h, now)
}
