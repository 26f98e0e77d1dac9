package pie_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// editing writes over the text before edit sees it, and rejects with 1.
const editing = `
//pie:cap write

//pie:guard exe=host func=edit onfault=reject:-2 onfuel=pass
func Edit(c *libpie.Call, text libpie.Addr, n int64) libpie.Verdict {
	c.Put8(text, 'x')
	c.Put16(text+1, 0x7a79)
	c.Zero(text+5, 3)
	if n >= 0 && n < 32 {
		return libpie.Pass()
	}
	return libpie.Reject(int64(1))
}
`

// A guard that writes does so in every mode of faults, and a page that cannot be
// written, or that another thread takes away meanwhile, is a fault.
func TestGuardWrites(t *testing.T) {
	for _, x := range []struct {
		name, mode string
		flags      []string
		before     string // a command
	}{
		{"by stores", "table", nil, ""},
		{"by stores, static", "table", []string{"-static"}, ""},
		{"by system calls", "copy", nil, "block"},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := startHost(t, x.flags...)
			if x.before != "" {
				h.ask(t, x.before, 0)
			}
			h.guard(t, editing)
			s := h.status(t)
			if !slices.Equal(s.Caps, []string{"write"}) || s.Guards[0].Faults != x.mode {
				t.Errorf("status says %v, %s", s.Caps, s.Guards[0].Faults)
			}
			for i, want := range []byte("xyz34\x00\x00\x0089") {
				if got := h.ask(t, "edit", i); got != int(want) {
					t.Errorf("byte %d is %q, want %q", i, rune(got), rune(want))
				}
			}
			for _, bad := range []string{"fixed", "null"} {
				if got := h.ask(t, bad, 0); got != -2 {
					t.Errorf("%s: %d", bad, got)
				}
			}
			if got := h.ask(t, "edit", 40); got != 1 {
				t.Errorf("a rejected call: %d", got)
			}
			errors := h.status(t).Guards[0].Errors
			missed := h.ask(t, "flap", 1000)
			if n := h.status(t).Guards[0].Errors - errors; missed == 0 || int(n) != missed {
				t.Errorf("%d calls missed a page that comes and goes, %d errors", missed, n)
			}
			if got := h.ask(t, "edit", 1); got != 'y' {
				t.Errorf("afterwards: %q", rune(got))
			}
		})
	}
}

// In audit mode, when it is off and when its trial is over, a guard writes nothing.
func TestGuardWritesOnlyInForce(t *testing.T) {
	h := startHost(t)
	h.guard(t, editing)
	for _, x := range []struct {
		mode pie.Mode
		want int
	}{{pie.ModeAudit, '1'}, {pie.ModeEnforce, 'y'}, {pie.ModeOff, '1'}, {pie.ModeEnforce, 'y'}} {
		if _, err := pie.SetMode(context.Background(), "LANG-1", x.mode, pie.Pids(h.cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
		if got := h.ask(t, "edit", 1); got != x.want {
			t.Errorf("%s: %q, want %q", x.mode, rune(got), rune(x.want))
		}
	}
	if _, err := pie.Remove(context.Background(), "LANG-1", pie.Pids(h.cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if got := h.ask(t, "edit", 1); got != '1' {
		t.Errorf("removed: %q", rune(got))
	}
}

// A Go program's memory is written as any other.
func TestGuardWritesInGoProgram(t *testing.T) {
	h := startGoHost(t)
	h.guard(t, `
//pie:cap write

//pie:guard exe=gohost func=main.edit onfault=reject:-2 onfuel=pass
func Edit(c *libpie.Call, text libpie.GoSlice, n int64) libpie.Verdict {
	c.Put64(text.Ptr, 0x3736353433323130)
	c.Zero(text.Ptr+2, text.Len-2)
	return libpie.Pass()
}
`)
	for i, want := range []int{'0', '1', 0, 0, 0} {
		if got := h.ask(t, "edit", i); got != want {
			t.Errorf("byte %d: %d", i, got)
		}
	}
}

// status is what pie says of the one prepatch in the host.
func (h *host) status(t *testing.T) pie.PrepatchStatus {
	t.Helper()
	all, err := pie.Status(context.Background(), pie.Pids(h.cmd.Process.Pid))
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 {
		t.Fatalf("status: %+v, %v", all, err)
	}
	return all[0].Prepatches[0]
}

// Arguments on the stack are changed as those in registers are; where the function
// has none, that is refused.
func TestStackArgumentsChange(t *testing.T) {
	const rewriting = `
//pie:cap rewrite

//pie:guard exe=host func=%s onfault=reject:-2 onfuel=pass
func Nine(c *libpie.Call, a int64) libpie.Verdict {
	if g := libpie.Arg[int64](c, 6); g > 5 {
		c.SetArg(6, g-1)
		c.SetArg(8, 0x1_0000_0000)
		c.SetArg(0, 0)
		return libpie.Rewrite()
	}
	return libpie.Pass()
}
`
	for _, flags := range [][]string{nil, {"-O0"}, {"-g"}} {
		h := startHost(t, flags...)
		h.guard(t, fmt.Sprintf(rewriting, "nine"))
		for n, want := range map[int]int{5: 1 + 50 + 200 + 3000, 6: 50 + 200 + 1000<<32} {
			if got := h.ask(t, "nine", n); got != want {
				t.Errorf("%v: nine(%d) is %d, want %d", flags, n, got, want)
			}
		}
	}
	h := startHost(t, "-g")
	_, err := pie.Plan(context.Background(), loadBody(t, fmt.Sprintf(rewriting, "lookup")), pie.Pids(h.cmd.Process.Pid), pie.Options{})
	if pie.ReasonOf(err) != pie.CodeResult {
		t.Errorf("of a function with one parameter: %v", err)
	}
}
