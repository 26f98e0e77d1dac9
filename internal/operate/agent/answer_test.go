package agent

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkFirstAnswer starts a server again and again, alone and held by an agent,
// and measures from its start to its first answer. PIE_ANSWER names it, "PREPATCH EXE PORT
// ASK COMMAND...": the prepatch of the catalogue, the executable that the rule is about, the
// port it listens at, what it is asked as hexadecimal digits, and how it is started.
func BenchmarkFirstAnswer(b *testing.B) {
	words := strings.Fields(os.Getenv("PIE_ANSWER"))
	if len(words) < 5 {
		return
	}
	ask, err := hex.DecodeString(words[3])
	if err != nil {
		b.Fatal(err)
	}
	for _, held := range []bool{false, true} {
		name := "alone"
		if held {
			name = "held"
		}
		b.Run(name, func(b *testing.B) {
			w := layOut(b, "testdata/victim.c")
			if held {
				w.policy(words[0] + " exe=" + words[1] + " enforce")
				w.begin(false)
				time.Sleep(2 * time.Second) // the gate's workers read and compile
			}
			var answers, guarded []time.Duration
			before := 0
			for b.Loop() {
				cmd := exec.Command(words[4], words[5:]...)
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				answers = append(answers, firstAnswer(b, cmd, words[2], ask))
				if p, ok := w.guardOf(cmd.Process.Pid); held && ok {
					guarded = append(guarded, p.Hold+p.Window)
					if p.Held {
						before++
					}
				}
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
				_ = cmd.Wait()
			}
			report := func(what string, all []time.Duration) {
				if len(all) > 0 {
					slices.Sort(all)
					b.ReportMetric(float64(all[len(all)/2])/1e6, "p50-"+what+"-ms")
					b.ReportMetric(float64(all[len(all)*99/100])/1e6, "p99-"+what+"-ms")
				}
			}
			report("answer", answers)
			report("guarded", guarded)
			if held {
				b.ReportMetric(100*float64(before)/float64(len(answers)), "%held")
			}
		})
	}
}

// firstAnswer starts a server and returns how long it takes until it says something.
func firstAnswer(b *testing.B, cmd *exec.Cmd, port string, ask []byte) time.Duration {
	b.Helper()
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for time.Since(began) < 20*time.Second {
		if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			var answer [1]byte
			_, err = c.Write(ask)
			if err == nil {
				_, err = c.Read(answer[:])
			}
			c.Close()
			if err == nil {
				return time.Since(began)
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
	b.Fatal(fmt.Errorf("%v says nothing at port %s", cmd.Args, port))
	return 0
}

// guardOf is what the agent says of a process, within a second.
func (w *world) guardOf(pid int) (Process, bool) {
	for range 20 {
		if w.client == nil {
			break
		}
		if s, err := w.client.Status(context.Background()); err == nil {
			for _, p := range s.Processes {
				if p.Pid == pid && p.State == Guarded {
					return p, true
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return Process{}, false
}
