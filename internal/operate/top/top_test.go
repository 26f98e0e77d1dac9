package top

import (
	"errors"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/patch-integration-engine/pie"
)

func status(pid int, id, counters string, calls, rejects uint64) pie.ProcessStatus {
	return pie.ProcessStatus{Pid: pid, Exe: "/usr/bin/server", Prepatches: []pie.PrepatchStatus{{
		ID: id, Mode: pie.ModeEnforce, State: "in", Counters: counters,
		Guards: []pie.GuardStatus{{Function: "parse\x1b[2J", Site: "0x1000", Intact: true, Calls: calls, Rejects: rejects}},
	}}}
}

// script is a model with pictures and a record of what was done.
func script(t *testing.T) (model, *[]string) {
	t.Helper()
	var done []string
	m := newModel(Actions{
		Mode: func(id string, mode pie.Mode, pids []int) error {
			done = append(done, id+" "+string(mode))
			return nil
		},
		Remove: func(id string, pids []int) error { return errors.New("busy") },
	})
	m.width, m.height = 140, 24
	at := time.Date(2026, 11, 26, 2, 14, 0, 0, time.UTC)
	for i := range uint64(3) {
		p := Picture{At: at.Add(time.Duration(i) * time.Second), Statuses: []pie.ProcessStatus{
			status(812, "CVE-1", "a", 1000*i, 50*i), status(813, "CVE-1", "a", 1000*i, 50*i), status(900, "CVE-2", "b", 7, 0),
		}}
		if i == 2 {
			p.Events = []pie.Event{{Time: p.At, Pid: 812, Exe: "/usr/bin/server", ID: "CVE-1", Function: "parse", Kind: "reject", Args: []uint64{1, 2}}}
		}
		m.take(p)
	}
	return m, &done
}

func press(t *testing.T, m model, keys ...string) model {
	t.Helper()
	for _, k := range keys {
		next, cmd := m.key(k)
		m = next.(model)
		if cmd != nil {
			if msg := cmd(); msg != nil {
				next, _ = m.Update(msg)
				m = next.(model)
			}
		}
	}
	return m
}

func TestScreen(t *testing.T) {
	m, _ := script(t)
	text := m.text()
	for _, want := range []string{"3 guarded processes", "50 rejected/s", "> CVE-1", "  CVE-2", "enforce  ", "1000 ", "██", "reject", "server[812]  parse(0x1, 0x2)", "q quit"} {
		if !strings.Contains(text, want) {
			t.Errorf("the screen has no %q:\n%s", want, text)
		}
	}
	if got := strings.Count(text, "\n") + 1; got != m.height {
		t.Errorf("%d lines of %d", got, m.height)
	}
	for _, size := range [][2]int{{1, 1}, {10, 3}, {80, 24}, {300, 100}} {
		m.width, m.height = size[0], size[1]
		for line := range strings.Lines(m.text()) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > m.width {
				t.Errorf("%v: a line of %d", size, n)
			}
		}
	}
}

// On a narrow screen the numbers stay, and what is long gives way.
func TestNarrow(t *testing.T) {
	m, _ := script(t)
	damaged := status(901, "CVE-2024-31228", "c", 12345678, 7654321)
	damaged.Prepatches[0].Guards[0].Intact = false
	m.take(Picture{At: m.last.At.Add(time.Second), Statuses: []pie.ProcessStatus{status(812, "CVE-1", "a", 3000, 4711), damaged}})
	for _, width := range []int{40, 50, 60, 70, 80, 100} {
		m.width = width
		text := m.text()
		for _, want := range []string{"PREPATCH", "REJECTED", "4711", "7654321", "CVE-2024-31228", "enforce", "q quit"} {
			if !strings.Contains(text, want) {
				t.Errorf("%d columns: no %q:\n%s", width, want, text)
			}
		}
		m = press(t, m, "enter")
		if text := m.text(); !strings.Contains(text, "rejected 4711  audited 0  errors 0") && width >= 70 {
			t.Errorf("%d columns: a guard's counts are cut off:\n%s", width, text)
		}
		m = press(t, m, "esc")
	}
}

// What is inspected is seen with its own events.
func TestInspectedEvents(t *testing.T) {
	m, _ := script(t)
	m.take(Picture{At: m.last.At.Add(time.Second), Statuses: m.last.Statuses, Events: []pie.Event{{Time: m.last.At, ID: "CVE-2", Function: "second", Kind: "reject"}}})
	m = press(t, m, "down", "enter")
	if text := m.text(); !strings.Contains(text, "second(") || strings.Contains(text, "parse(0x1, 0x2)") {
		t.Errorf("inspecting CVE-2:\n%s", text)
	}
	m = press(t, m, "esc")
	if text := m.text(); !strings.Contains(text, "second(") || !strings.Contains(text, "parse(0x1, 0x2)") {
		t.Errorf("all of them:\n%s", text)
	}
}

func TestKeys(t *testing.T) {
	m, done := script(t)
	m = press(t, m, "down", "a")
	if len(*done) != 1 || (*done)[0] != "CVE-2 audit" || !strings.Contains(m.text(), "CVE-2: audit in 1 of its processes") {
		t.Errorf("did %q:\n%s", *done, m.text())
	}
	m = press(t, m, "up", "enter")
	if text := m.text(); !strings.Contains(text, "pid 812") || strings.Contains(text, "\x1b") || strings.Contains(text, "pid 900") {
		t.Errorf("inspecting CVE-1:\n%s", text)
	}
	m = press(t, m, "esc", "r")
	if !strings.Contains(m.text(), "take CVE-1 out of 2 processes? y/N") {
		t.Errorf("not asked:\n%s", m.text())
	}
	if m = press(t, m, "n"); !strings.Contains(m.text(), "not removed") {
		t.Error("removed without a yes")
	}
	if m = press(t, m, "r", "y"); !strings.Contains(m.text(), "CVE-1: busy") {
		t.Errorf("the error is not told:\n%s", m.text())
	}
	if _, cmd := m.key("q"); cmd == nil {
		t.Error("q does not end it")
	} else if _, ok := cmd().(tea.QuitMsg); !ok {
		t.Error("q does not end it")
	}
}

// What a process writes into its counters may shrink or be absurd.
func TestHostileCounts(t *testing.T) {
	m, _ := script(t)
	m.take(Picture{At: m.last.At.Add(time.Second), Statuses: []pie.ProcessStatus{status(812, "CVE-1", "a", 0, 1<<63)}})
	m.take(Picture{At: m.last.At.Add(time.Second), Statuses: []pie.ProcessStatus{status(812, "CVE-1", "a", 1<<63, 0)}})
	m.take(Picture{At: m.last.At.Add(-time.Hour)})
	if !strings.Contains(m.text(), "no prepatch is in any process") {
		t.Error(m.text())
	}
}

func TestSparkline(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   string
	}{{nil, "    "}, {[]float64{0, 0}, "    "}, {[]float64{1, 2, 4, 8, 0}, "▄▅█ "}, {[]float64{5}, "   █"}} {
		if got := sparkline(tt.values, 4); len([]rune(got)) != 4 || tt.want != got && tt.values != nil && len(tt.values) < 3 {
			t.Errorf("%v: %q, want %q", tt.values, got, tt.want)
		}
	}
}
