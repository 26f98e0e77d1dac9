package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	idleWindow = 30 * time.Second // over which the agent's processor time is taken
	idleSettle = 20 * time.Second // before: its gate starts, its workers compile
	scanned    = 300              // processes more than the machine has
)

// idle prints how much of a core an agent takes while it keeps one rule and nothing
// happens: the agent itself, and all the processes that it has started. Programs that
// others start meanwhile count, too: on a machine that is not quiet this is no figure.
func (b *bench) idle() error {
	agent, err := b.startAgent("CVE-2024-7347 exe=" + b.path("target") + " enforce\n")
	if err != nil {
		return err
	}
	defer func() { _ = agent.Process.Signal(syscall.SIGTERM); _ = agent.Wait() }()
	fmt.Printf("\n## The agent when nothing happens, in %% of a core over %v\n\n| repeats | the agent (median) | with its helpers (median) | all, with helpers |\n|---|---|---|---|\n", idleWindow)
	time.Sleep(idleSettle)
	var alone, all []float64
	for range b.repeat {
		helpers := descendants(agent.Process.Pid)
		one, every := cpuTime(agent.Process.Pid), cpuTime(append(helpers, agent.Process.Pid)...)
		time.Sleep(idleWindow)
		if now := descendants(agent.Process.Pid); !slices.Equal(now, helpers) {
			return fmt.Errorf("the agent's helpers were %v and are %v: this is not nothing", helpers, now)
		}
		percent := func(d time.Duration) float64 { return 100 * d.Seconds() / idleWindow.Seconds() }
		alone = append(alone, percent(cpuTime(agent.Process.Pid)-one))
		all = append(all, percent(cpuTime(append(helpers, agent.Process.Pid)...)-every))
	}
	fmt.Printf("| %d | %.3f | %.3f | %.3f |\n", b.repeat, median(alone), median(all), all)
	return nil
}

// startAgent starts an agent with a policy, and waits until it holds programs.
func (b *bench) startAgent(policy string) (*exec.Cmd, error) {
	if err := os.WriteFile(b.path("policy"), []byte(policy), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(b.path("agent.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(b.path("pie"), "agent", "--policy", b.path("policy"), "--prepatches", b.path("none"), "--socket", b.path("sock"))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for range 300 {
		if text, _ := os.ReadFile(b.path("agent.log")); strings.Contains(string(text), "new processes are held") {
			return cmd, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	text, _ := os.ReadFile(b.path("agent.log"))
	return nil, fmt.Errorf("the agent holds no programs, which takes root and fanotify\n%s", text)
}

// descendants are the processes that one has started, and those that they have, sorted.
func descendants(pid int) (out []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(s); err == nil {
				out = append(append(out, child), descendants(child)...)
			}
		}
	}
	slices.Sort(out)
	return out
}

// cpuTime is what the threads of processes have had of processors, which
// /proc/PID/task/TID/schedstat has in nanoseconds.
func cpuTime(pids ...int) (sum time.Duration) {
	for _, pid := range pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, f := range files {
			text, _ := os.ReadFile(f)
			if fields := strings.Fields(string(text)); len(fields) > 0 {
				n, _ := strconv.ParseInt(fields[0], 10, 64)
				sum += time.Duration(n)
			}
		}
	}
	return sum
}

// scan prints how long `pie scan` takes with 300 processes more than the machine has, of
// which half are a program of the catalogue: with nothing kept, and with what the scan
// before has kept.
func (b *bench) scan() error {
	stop, err := b.startMany()
	if err != nil {
		return err
	}
	defer stop()
	fmt.Printf("\n## `pie scan`, %d processes more than the machine has, half of them nginx\n\n| scan | repeats | median s | median processor s | all s |\n|---|---|---|---|---|\n", scanned)
	for _, fresh := range []bool{true, false} {
		name, arguments := "again", []string{"scan", "--json"}
		if fresh {
			name, arguments = "nothing kept", append(arguments, "--fresh")
		}
		var wall, cpu []float64
		for range b.repeat {
			cmd := exec.Command(b.path("pie"), arguments...)
			cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+b.path("cache"))
			begin := time.Now()
			if out, err := cmd.Output(); err != nil {
				return fmt.Errorf("pie scan: %w\n%s", err, out)
			}
			wall = append(wall, time.Since(begin).Seconds())
			cpu = append(cpu, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
		}
		fmt.Printf("| %s | %d | %.2f | %.2f | %.2f |\n", name, b.repeat, median(wall), median(cpu), wall)
	}
	return nil
}

// startMany starts processes that sleep: nginx, whose workers do, and a program that no
// prepatch is about.
func (b *bench) startMany() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	for n := 0; n < scanned; {
		if n < scanned/2 {
			_, pid, end, err := b.startNginx()
			if err != nil {
				stop()
				return nil, err
			}
			stops = append(stops, end)
			n += 1 + len(descendants(pid))
			continue
		}
		cmd := exec.Command("sleep", "86400")
		if err := cmd.Start(); err != nil {
			stop()
			return nil, err
		}
		stops = append(stops, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		n++
	}
	return stop, nil
}
