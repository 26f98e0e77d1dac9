package pie_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// A prepatch may be inserted in audit or enforce mode, on trial or not, and with a
// bound of what it may reject; then it may be kept, switched off or set to a mode,
// each time by another engine, as by another pie. What it does is held against
// this model, in the process and in a child of it.
type model struct {
	mode  pie.Mode
	trial string // "", "running" or "over"
	bound bool   // of the share of calls that may be rejected, during the trial
}

func (m model) rejects() bool { return m.mode == pie.ModeEnforce && m.trial != "over" }

func (m model) String() string {
	return fmt.Sprintf("%s, trial %q, bound %v", m.mode, m.trial, m.bound)
}

// verbs are what an operator may do next, in the process and in the model.
var verbs = []struct {
	name string
	do   func(ctx context.Context, sel pie.Select) error
	then func(model) model
}{
	{"nothing", nil, nil},
	{"keep", keepIt, func(m model) model { return model{m.mode, "", false} }},
	{"off", setTo(pie.ModeOff), func(m model) model { return m.set(pie.ModeOff) }},
	{"audit", setTo(pie.ModeAudit), func(m model) model { return m.set(pie.ModeAudit) }},
	{"enforce", setTo(pie.ModeEnforce), func(m model) model { return m.set(pie.ModeEnforce) }},
}

// set changes the mode: a trial that is over is forgotten, one that runs goes on.
func (m model) set(mode pie.Mode) model {
	if m.trial == "over" {
		m.trial = ""
	}
	m.mode = mode
	return m
}

func keepIt(ctx context.Context, sel pie.Select) error {
	_, err := pie.Keep(ctx, "TEST-0001", sel)
	return err
}

func setTo(mode pie.Mode) func(context.Context, pie.Select) error {
	return func(ctx context.Context, sel pie.Select) error {
		_, err := pie.SetMode(ctx, "TEST-0001", mode, sel)
		return err
	}
}

// begins are the ways to insert.
func begins() (all []model) {
	for _, mode := range []pie.Mode{pie.ModeEnforce, pie.ModeAudit} {
		all = append(all, model{mode, "", false}, model{mode, "running", false}, model{mode, "running", true},
			model{mode, "over", false}, model{mode, "over", true})
	}
	return all
}

const shortTrial = 300 * time.Millisecond

func TestModes(t *testing.T) {
	p, ctx := loadGuard(t), context.Background()
	v := startVictims(t, 1)[0]
	sel := pie.Pids(v.pid())
	for _, begin := range begins() {
		for _, verb := range verbs {
			o := pie.Options{Mode: begin.mode}
			switch begin.trial {
			case "running":
				o.Trial = time.Hour
			case "over":
				o.Trial = shortTrial
			}
			if begin.bound {
				o.MaxReject = .5
			}
			if _, err := pie.Insert(ctx, p, sel, o); err != nil {
				t.Fatal(err)
			}
			if begin.trial == "over" {
				time.Sleep(shortTrial + 50*time.Millisecond)
			}
			want := begin
			if verb.do != nil {
				if err := verb.do(ctx, sel); err != nil {
					t.Fatalf("%v, then %s: %v", begin, verb.name, err)
				}
				want = verb.then(begin)
			}
			v.holds(t, fmt.Sprintf("%v, then %s", begin, verb.name), want)
			if _, err := pie.Remove(ctx, "TEST-0001", sel); err != nil {
				t.Fatal(err)
			}
			v.want(t, 2, "5")
		}
	}
}

// holds compares the process with the model: what status says, and what becomes of
// an attack in a child.
func (v *victim) holds(t *testing.T, how string, want model) {
	t.Helper()
	all, err := pie.Status(context.Background(), pie.Pids(v.pid()))
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 {
		t.Fatalf("%s: status %+v, %v", how, all, err)
	}
	got := model{mode: all[0].Prepatches[0].Mode, bound: want.bound}
	if end := all[0].Prepatches[0].TrialEnd; end != nil {
		got.trial = "running"
		if time.Now().After(*end) {
			got.trial = "over"
		}
	}
	if got != want {
		t.Errorf("%s: is %v, want %v", how, got, want)
	}
	if survived := v.ask(t, "f101") == "127"; survived != want.rejects() {
		t.Errorf("%s: %v: the attack on a child is turned away: %v", how, want, survived)
	}
	v.want(t, 2, "5")
}

func (v *victim) ask(t *testing.T, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(v.in, line); err != nil {
		t.Fatal(err)
	}
	got, err := v.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(got)
}

// The bound of what a trial may reject is each process's own: a child that was
// attacked switches itself off, and neither its parent nor the next child.
func TestMaxRejectOfAChild(t *testing.T) {
	p, ctx := loadGuard(t), context.Background()
	v := startVictims(t, 1)[0]
	sel := pie.Pids(v.pid())
	if _, err := pie.Insert(ctx, p, sel, pie.Options{Mode: pie.ModeEnforce, Trial: time.Hour, MaxReject: .1}); err != nil {
		t.Fatal(err)
	}
	for range 300 { // well above the 128 calls from which on a share means anything
		if got := v.ask(t, "f101"); got != "127" {
			t.Fatalf("the attack on a child: %s", got)
		}
	}
	v.holds(t, "attacks on children", model{pie.ModeEnforce, "running", true})
}
