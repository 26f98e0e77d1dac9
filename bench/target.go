package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// A target is the program of testdata/target.c, running.
type target struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func (b *bench) start(mode string, threads int) (*target, error) {
	t := &target{cmd: exec.Command(b.path("target"), mode, strconv.Itoa(threads))}
	in, err := t.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.in, t.out = in, bufio.NewScanner(out)
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	if !t.out.Scan() || t.out.Text() != "ready" {
		t.stop()
		return nil, fmt.Errorf("the target with %d threads did not start", threads)
	}
	return t, nil
}

func (t *target) pid() string { return strconv.Itoa(t.cmd.Process.Pid) }

func (t *target) stop() {
	t.cmd.Process.Kill()
	t.cmd.Wait()
}

// costs is what one call takes in ns: one of the unguarded twin, what the function
// and a detour written by hand add to it, and how many times a call with that
// detour the function takes; the last two are 0 where there is no such detour.
type costs struct{ twin, added, detour, ratio float64 }

func (t *target) costs() (map[string]costs, error) {
	if _, err := io.WriteString(t.in, "\n"); err != nil {
		return nil, err
	}
	report := map[string]costs{}
	for t.out.Scan() && t.out.Text() != "." {
		var name string
		var c costs
		if _, err := fmt.Sscan(t.out.Text(), &name, &c.twin, &c.added, &c.detour, &c.ratio); err != nil {
			return nil, fmt.Errorf("the target said %q: %w", t.out.Text(), err)
		}
		report[name] = c
	}
	if len(report) == 0 {
		return nil, fmt.Errorf("the target ended: %v", t.out.Err())
	}
	return report, nil
}

// gaps is what the threads felt since the last report.
type gaps struct {
	gap, late   float64 // µs: the spinner's largest gap, a sleeper's largest lateness
	interrupted int     // system calls that returned EINTR
}

func (t *target) gaps() (g gaps, err error) {
	if _, err := io.WriteString(t.in, "\n"); err != nil {
		return g, err
	}
	if !t.out.Scan() {
		return g, fmt.Errorf("the target ended: %v", t.out.Err())
	}
	_, err = fmt.Sscan(strings.TrimSpace(t.out.Text()), &g.gap, &g.late, &g.interrupted)
	return g, err
}
