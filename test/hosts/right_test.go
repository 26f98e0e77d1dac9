package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// Calls that race insertions and removals, of three threads that never pause: each answer
// is compared with what the function must say. The long form has a thousand removals raced
// by more than 10⁸ of them.
//
// Who inserts and removes is a process of its own. On a busy machine its watchdog may end it
// in the middle of either: then another one repairs and goes on, and the answers must
// be right all the same.
func TestEveryCallIsRight(t *testing.T) {
	cycles, calls := 20, uint64(4_000_000)
	if os.Getenv("PIE_TEST_LONG") != "" {
		cycles, calls = 1000, 100_000_000
	}
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	h := start(t, nil, path, "", "3")
	began, ended := h.read().Calls, 0
	var by *cycling
	for i := 0; i < cycles; {
		if by == nil {
			by = h.startCycler(exeOf(path))
		}
		if !by.once(t) {
			by = nil
			if ended++; ended > 3+cycles/10 {
				t.Fatalf("%d pies were ended by their watchdogs in %d cycles: the machine is too busy", ended, i)
			}
			continue
		}
		i++
		for due := began + calls/uint64(cycles)*uint64(i); h.read().Calls < due; {
			h.calls(perHalf)
		}
		if now := h.read(); i%100 == 0 { // a long run that is ended early has said how far it came
			t.Logf("%d calls raced %d removals, %d wrong", now.Calls-began, i, now.Wrong)
		}
	}
	s := h.read()
	if s.Wrong != 0 {
		t.Errorf("%d wrong results", s.Wrong)
	}
	h.asItsFiles()
	t.Logf("%d calls raced %d insertions and as many removals: %d rejected, %d wrong; %d pies ended by their watchdogs", s.Calls-began, cycles, s.Rejected, s.Wrong, ended)
}

// cyclerOrder names the variable that makes this program a cycler: "PID WHERE".
const cyclerOrder = "PIE_HOSTS_CYCLER"

// cycling is a cycler that runs.
type cycling struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func (h *host) startCycler(where string) *cycling {
	h.t.Helper()
	c := &cycling{cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", cyclerOrder, h.pid(), where))
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		in.Close() // which ends it
		_ = c.cmd.Wait()
	})
	c.in, c.out = in, bufio.NewReader(out)
	return c
}

// once has one insertion and removal made, and reports false when the cycler was killed.
func (c *cycling) once(t *testing.T) bool {
	t.Helper()
	_, _ = c.in.Write([]byte{'\n'}) // what has ended is noticed below
	if _, err := c.out.ReadString('\n'); err == nil {
		return true
	}
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return false
	}
	t.Fatalf("who inserts and removes has ended: %v", err)
	return false
}

// cycler repairs, and then inserts and removes once for each line that it reads.
func cycler(order string) int {
	err := obey(order)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cycler:", err)
		return 1
	}
	return 0
}

func obey(order string) error {
	var pid int
	var where string
	if _, err := fmt.Sscanf(order, "%d %s", &pid, &where); err != nil {
		return fmt.Errorf("order %q: %w", order, err)
	}
	p, err := loadGuard("HOST-1", where)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if _, err := pie.Repair(ctx, pie.Pids(pid)); err != nil {
		return fmt.Errorf("repairing: %w", err)
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); fmt.Println() {
		r, err := pie.Insert(ctx, p, pie.Pids(pid), pie.Options{Mode: pie.ModeEnforce, Build: "test"})
		if err != nil || r.Guarded() != 1 {
			return fmt.Errorf("inserting: %+v, %w", r, err)
		}
		r, err = pie.Remove(ctx, p.ID, pie.Pids(pid))
		if err != nil || len(r.Processes) != 1 || r.Processes[0].Error != "" {
			return fmt.Errorf("removing: %+v, %w", r, err)
		}
	}
	return nil
}
