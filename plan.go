package pie

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/plan"
)

// GuardPlan is where one guard would go in one process.
type GuardPlan struct {
	Guard    string   `json:"guard"`
	Function string   `json:"function"`
	Image    string   `json:"image"`
	How      string   `json:"how"` // the evidence for the function
	Entry    string   `json:"entry"`
	Site     string   `json:"site"`
	Before   string   `json:"before"` // the bytes to be replaced, hex
	After    string   `json:"after"`
	Faults   string   `json:"fault_mode,omitempty"` // how reads survive bad addresses; empty when there are none
	Code     int      `json:"code_bytes"`
	Copies   []string `json:"uncovered,omitempty"` // copies of the function no guard sees
	Notes    []string `json:"notes,omitempty"`
	Listing  string   `json:"listing"` // every instruction that stays, moves or is written, and the registers used
}

// ProcessPlan is what Insert would do in one process.
type ProcessPlan struct {
	Pid     int         `json:"pid"`
	Exe     string      `json:"exe"`
	Already bool        `json:"already"` // the prepatch is in
	Copies  Copies      `json:"copies"`  // of the guarded functions
	Guards  []GuardPlan `json:"guards,omitempty"`
	Refused *Refusal    `json:"refused,omitempty"`
}

// Plan tells what Insert would do in the selected processes; nothing is changed
// and no thread is stopped.
func Plan(ctx context.Context, p *Prepatch, sel Select, o Options) ([]ProcessPlan, error) {
	pids, err := selected(ctx, sel)
	if err != nil {
		return nil, err
	}
	rs, err := newResolver(ctx, p, o)
	if err != nil {
		return nil, err
	}
	defer rs.close()
	var plans []ProcessPlan
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		pp, err := planOne(pid, rs)
		if err != nil && ctx.Err() != nil {
			return nil, ctx.Err() // whatever the interruption made fail
		}
		var r *Refusal
		switch {
		case errors.As(err, &r) && r.Code == CodeNoProcess && len(pids) > 1:
			continue // it ended meanwhile
		case errors.As(err, &r) && len(pids) == 1:
			return nil, r
		case errors.As(err, &r):
			pp.Refused = r
		case err != nil:
			return nil, err
		}
		plans = append(plans, pp)
	}
	return plans, nil
}

func planOne(pid int, rs *resolver) (ProcessPlan, error) {
	out := ProcessPlan{Pid: pid, Exe: exePath(pid)}
	p, err := openProcess(pid)
	if err != nil {
		return out, err
	}
	defer p.close()
	all, err := observe.Status(p.read)
	in, err := alreadyAmong(p, rs.p, all, err)
	if out.Already = in != nil; err != nil || out.Already {
		return out, err
	}
	if lostAmong(rs.p.ID, all) {
		return out, refuse(CodePartly, nil, "pie insert takes out what is left and puts it in anew",
			"%s: %s was in, and a library that it guarded was unloaded since", p, rs.p.ID)
	}
	w, err := p.attachable()
	if err != nil {
		return out, err
	}
	defer w.Close()
	if err := w.Untraced(); err != nil {
		return out, explain(err, p.String())
	}
	space, err := insert.Space(w, rs.o.Build)
	if err != nil {
		return out, explain(err, p.String())
	}
	r, err := rs.resolve(p, w, space)
	if err != nil {
		return out, err
	}
	if err := insert.Check(w, r.plan); err != nil {
		return out, explain(err, p.String())
	}
	out.Copies = r.copies()
	for i, g := range r.plan.Guards() {
		out.Guards = append(out.Guards, describePlan(r, i, g))
		if r.quiet {
			last := &out.Guards[len(out.Guards)-1]
			last.Notes = append(last.Notes, quietNote)
		}
	}
	return out, nil
}

func describePlan(r *resolved, i int, g plan.Guard) GuardPlan {
	f := r.guards[i].function
	return GuardPlan{
		Guard: g.Name, Function: f.Name, Image: f.Image.Name(), How: f.How,
		Entry: f.Entry.String(), Site: g.Site.String(), Before: hex.EncodeToString(g.Original), After: hex.EncodeToString(g.Patch),
		Code: len(g.Code.Bytes), Copies: f.Copies, Notes: append(slices.Clone(g.Where.Warnings), r.guards[i].notes...), Faults: r.guards[i].faults,
		Listing: g.Describe(),
	}
}

// alreadyIn returns what is in the process when it is exactly this prepatch, else
// nil. Another content under the same id is a Refusal; what was lost with a library is
// not in.
func alreadyIn(p *process, pp *Prepatch) (*observe.Prepatch, error) {
	all, err := observe.Status(p.read)
	return alreadyAmong(p, pp, all, err)
}

// alreadyAmong is alreadyIn for what was read of the process.
func alreadyAmong(p *process, pp *Prepatch, all []observe.Prepatch, err error) (*observe.Prepatch, error) {
	if err != nil {
		return nil, explain(err, p.String())
	}
	for _, in := range all {
		switch {
		case in.ID != pp.ID || in.State == observe.StatePrepared:
		case in.Hash != pp.Hash():
			return nil, refuse(CodeOther, nil, "take it out first: pie remove "+pp.ID,
				"%s has %s already, with other content", p, pp.ID)
		case in.State == observe.StateIn:
			return &in, nil
		case in.State == observe.StateAltered:
			return nil, refuse(CodeBytes, nil, "pie status --pid N shows it; the other patcher must take its bytes out first",
				"%s: somebody wrote over the guard of %s", p, pp.ID)
		}
	}
	return nil, nil
}

// lostAmong tells whether a prepatch was in, and lost guards with their library.
func lostAmong(id string, all []observe.Prepatch) bool {
	return slices.ContainsFunc(all, func(in observe.Prepatch) bool { return in.ID == id && in.State == observe.StateLost })
}
