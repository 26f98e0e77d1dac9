package pie

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/recorder"
	"github.com/patch-integration-engine/pie/internal/guard/recording"
	"github.com/patch-integration-engine/pie/internal/guard/replay"
)

// ReplayReport is what a prepatch would have done to recorded calls.
type ReplayReport struct {
	ID       string         `json:"id"`
	Recorded RecordedInfo   `json:"recording"`
	Calls    uint64         `json:"calls"`     // of functions that the prepatch guards
	Rejected uint64         `json:"rejected"`  // that would be
	Rewrites uint64         `json:"rewritten"` // that would go on with other arguments
	Logged   uint64         `json:"logged"`
	Errors   uint64         `json:"errors"`   // on which the guard could not read memory; onfault decided
	RanLong  uint64         `json:"ran_long"` // on which it ran too long; onfuel decided
	Unknown  uint64         `json:"unknown"`  // whose outcome cannot be told
	Other    uint64         `json:"other"`    // recorded calls of functions that it does not guard
	Examples []ReplayedCall `json:"examples"` // the first that would be rejected
	Unknowns []ReplayedCall `json:"unknowns"` // the first whose outcome cannot be told
	Notes    []string       `json:"notes,omitempty"`
}

// RecordedInfo says what the recording is.
type RecordedInfo struct {
	ID       string    `json:"id"`
	Same     bool      `json:"same_prepatch"` // it was made with exactly this prepatch
	Begin    time.Time `json:"begin"`
	Every    uint64    `json:"one_in"`
	Memory   bool      `json:"memory"`
	Complete bool      `json:"complete"` // it was ended, and not cut off
	Calls    uint64    `json:"calls_meanwhile,omitempty"`
}

// ReplayedCall is one call as people look at it. Strings are raw.
type ReplayedCall struct {
	Number   uint64    `json:"number"`
	Pid      int       `json:"pid"`
	Time     time.Time `json:"time"`
	Function string    `json:"function"`
	Guard    string    `json:"guard"`
	Args     []string  `json:"args"` // "n = 1001", by the guard's declaration
	Why      string    `json:"why"`
}

// examples is how many calls of a kind a report shows.
const examples = 5

// Replay runs the guards of p over the calls of a recording. The error is a *Refusal
// when r is no recording.
func Replay(ctx context.Context, p *Prepatch, r io.Reader) (*ReplayReport, error) {
	in, err := recording.NewReader(r)
	if err != nil {
		return nil, refuse(CodeRecording, err, "give a file that pie record wrote", "reading the recording: %v", err)
	}
	hash := p.Hash()
	h := &in.Header
	re := &replayer{p: p, in: in, guards: map[placeKey][]*replayed{}, states: map[int][]byte{}, report: &ReplayReport{
		ID:       p.ID,
		Recorded: RecordedInfo{ID: h.ID, Same: h.Hash == hex.EncodeToString(hash[:]), Begin: h.Begin, Every: h.Every, Memory: h.Memory},
		Examples: []ReplayedCall{}, Unknowns: []ReplayedCall{},
	}}
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := in.Next()
		if errors.Is(err, io.EOF) {
			return re.finish(), nil
		}
		if err != nil {
			return nil, refuse(CodeRecording, err, "record again", "reading the recording, after %d calls: %v", n, err)
		}
		if err := re.call(c); err != nil {
			return nil, err
		}
	}
}

// replayer is one call of Replay.
type replayer struct {
	p      *Prepatch
	in     *recording.Reader
	guards map[placeKey][]*replayed
	states map[int][]byte // the prepatch's state, by process
	report *ReplayReport
}

// placeKey is a recorded guard in a recorded process.
type placeKey struct{ process, guard int }

// replayed is guard index of the prepatch over the calls of one place.
type replayed struct {
	*replay.Guard
	index int
}

func (re *replayer) call(c *recording.Call) error {
	key := placeKey{c.Process, c.Guard}
	guards, ok := re.guards[key]
	if !ok {
		var err error
		if guards, err = re.guardsFor(key); err != nil {
			return err
		}
		re.guards[key] = guards
	}
	if len(guards) == 0 {
		re.report.Other++
		return nil
	}
	for _, g := range guards {
		out, err := g.Run(c)
		if err != nil {
			return fmt.Errorf("this is an error of pie: %w", err)
		}
		re.count(g, c, out)
	}
	return nil
}

// guardsFor are the guards of the prepatch for what a recorded guard stood in front
// of: the one of its name, or else all for that function.
func (re *replayer) guardsFor(key placeKey) ([]*replayed, error) {
	was := re.in.Header.Guards[key.guard]
	var place recording.Place
	for _, pl := range re.in.Processes[key.process].Places {
		if pl.Guard == key.guard {
			place = pl
		}
	}
	if re.states[key.process] == nil {
		re.states[key.process] = make([]byte, re.p.State)
	}
	var all, named []*replayed
	for k, g := range re.p.compiled.Guards {
		if g.Func != was.Func || g.Lib != was.Lib {
			continue
		}
		made, err := replay.New(re.p.programs[k], place, re.states[key.process])
		if err != nil {
			return nil, err
		}
		all = append(all, &replayed{made, k})
		if g.Name == was.Name {
			named = append(named, all[len(all)-1])
		}
	}
	if len(named) > 0 {
		return named, nil
	}
	return all, nil
}

func (re *replayer) count(g *replayed, c *recording.Call, out replay.Outcome) {
	r := re.report
	r.Calls++
	if out.Unknown != "" {
		r.Unknown++
		why := out.Unknown
		if c.End == recorder.EndCut {
			why += ": the record of this call was cut off, which pie record --per-call bounds"
		}
		if len(r.Unknowns) < examples {
			r.Unknowns = append(r.Unknowns, re.describe(g, c, why))
		}
		return
	}
	why := "the guard rejects it"
	switch {
	case out.Faulted:
		r.Errors++
		why = "guard error (onfault)"
	case out.OutOfFuel:
		r.RanLong++
		why = "the guard ran too long (onfuel)"
	}
	switch out.Verdict.Kind() {
	case bpf.VerdictReject, bpf.VerdictExit:
		r.Rejected++
		if len(r.Examples) < examples {
			r.Examples = append(r.Examples, re.describe(g, c, why))
		}
	case bpf.VerdictRewrite:
		r.Rewrites++
	case bpf.VerdictLog:
		r.Logged++
	}
}

// whyNoMemory says why a recording of p has no memory, and what to do about it.
func (p *Prepatch) whyNoMemory() string {
	if slices.Contains(p.Caps, "call") || slices.Contains(p.Caps, "write") {
		return "of a guard that calls functions or writes memory argument words alone can be recorded: try it on trial, with pie insert --trial and --max-reject"
	}
	return "the recording has argument words only; with //pie:evidence memory it would have what the guard reads"
}

func (re *replayer) finish() *ReplayReport {
	r, t := re.report, re.in.Total
	if t == nil {
		r.Notes = append(r.Notes, "the recording ends abruptly: its pie record was killed, or the file was cut off")
	} else {
		r.Recorded.Complete, r.Recorded.Calls = true, t.Calls
	}
	if re.p.State > 0 {
		r.Notes = append(r.Notes, "the prepatch keeps state from call to call: it began empty, and saw recorded calls only")
	}
	if !r.Recorded.Memory && r.Unknown > 0 {
		r.Notes = append(r.Notes, re.p.whyNoMemory())
	}
	return r
}

// describe makes of a call what people look at.
func (re *replayer) describe(g *replayed, c *recording.Call, why string) ReplayedCall {
	guard := re.p.compiled.Guards[g.index]
	out := ReplayedCall{
		Number: c.Number, Pid: re.in.Processes[c.Process].Pid, Time: re.in.Header.Time(c),
		Function: guard.Func, Guard: guard.Name, Why: why, Args: []string{},
	}
	memory := recording.Gather(c.Reads)
	for _, p := range guard.Params {
		if p.Word >= bpf.FrameArgs {
			break
		}
		text := p.Name + " = " + valueText(p.Type, c.Args[p.Word])
		if s := recordedText(memory, c.Args[p.Word]); s != "" {
			text += " " + s
		}
		out.Args = append(out.Args, text)
	}
	return out
}

// valueText is an argument word as its declared type has it.
func valueText(typ string, w uint64) string {
	switch typ {
	case "int8":
		return fmt.Sprint(int8(w))
	case "int16":
		return fmt.Sprint(int16(w))
	case "int32":
		return fmt.Sprint(int32(w))
	case "int64", "int":
		return fmt.Sprint(int64(w))
	case "uint8", "byte":
		return fmt.Sprint(uint8(w))
	case "uint16":
		return fmt.Sprint(uint16(w))
	case "uint32":
		return fmt.Sprint(uint32(w))
	case "uint64", "uint", "uintptr":
		return fmt.Sprint(w)
	case "bool":
		return fmt.Sprint(w&0xff != 0)
	}
	return fmt.Sprintf("%#x", w)
}

// recordedText is the begin of the memory that was recorded at addr, in quotes.
func recordedText(m *recording.Memory, addr uint64) string {
	const longest = 40
	for _, p := range m.Pieces() {
		if p.Addr != addr {
			continue
		}
		if len(p.Bytes) > longest {
			return `"` + string(p.Bytes[:longest]) + `"…`
		}
		return `"` + string(p.Bytes) + `"`
	}
	return ""
}
