package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/patch-integration-engine/pie"
	targets "github.com/patch-integration-engine/pie/internal/operate/target"
)

// cyclerOrder names the variable that makes this program one pie that runs on, as
// the agent does, and inserts and removes a prepatch for each line that it reads: "PID GUARD".
const cyclerOrder = "PIE_BENCH_CYCLER"

// preparation is how long it gives way while it prepares, as commands do.
const preparation = 250 * time.Millisecond

func obey(order string) error {
	var pid int
	var guard string
	if _, err := fmt.Sscan(order, &pid, &guard); err != nil {
		return fmt.Errorf("order %q: %w", order, err)
	}
	source, err := os.ReadFile(guard)
	if err != nil {
		return err
	}
	p, err := pie.Load(map[string][]byte{"guard.go": source})
	if err != nil {
		return err
	}
	engine, err := pie.NewEngine()
	if err != nil {
		return err
	}
	defer engine.Close()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); fmt.Println("done") {
		if err := cycle(engine, p, pid); err != nil {
			return err
		}
	}
	return nil
}

func cycle(engine *pie.Engine, p *pie.Prepatch, pid int) error {
	sel, err := targets.New(targets.Spec{Pids: []int{pid}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	pie.InBackground(preparation)
	if r, err := engine.Insert(ctx, p, sel.Select, pie.Options{Mode: pie.ModeEnforce, Build: "bench"}); err != nil || r.Guarded() == 0 {
		return fmt.Errorf("inserting: %+v, %w", r, err)
	}
	pie.InBackground(preparation)
	if r, err := engine.Remove(ctx, p.ID, sel.Select); err != nil {
		return fmt.Errorf("removing: %+v, %w", r, err)
	}
	return nil
}

// cycler is one that has been started.
type cycler struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startCycler(pid int, guard string) (*cycler, error) {
	c := &cycler{cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", cyclerOrder, pid, guard))
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

func (c *cycler) once() error {
	if _, err := c.in.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("who inserts and removes has ended: %w", err)
	}
	if _, err := c.out.ReadString('\n'); err != nil {
		return fmt.Errorf("who inserts and removes has ended: %w", err)
	}
	return nil
}

func (c *cycler) end() {
	c.in.Close()
	_ = c.cmd.Wait()
}

// cpu is the processor time that it has taken so far.
func (c *cycler) cpu() time.Duration {
	var user, system int
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	var skip string // what stands behind the name, which may hold spaces (proc(5))
	_, _ = fmt.Sscan(string(text[bytes.LastIndexByte(text, ')')+1:]), &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond // of USER_HZ
}
