package pie

import (
	"context"
	"errors"
	"slices"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// ScanState says what a catalogue prepatch is to a running process.
type ScanState string

// States of a ScanResult.
const (
	ScanGuardable ScanState = "would guard"
	ScanGuarded   ScanState = "guarded"
	ScanFixed     ScanState = "fixed"
	ScanRefused   ScanState = "cannot guard"
)

// ScanResult is one prepatch and one process it is about.
type ScanResult struct {
	ID      string    `json:"id"`
	Pid     int       `json:"pid"`
	Parent  int       `json:"parent"` // pid of the parent process
	Exe     string    `json:"exe"`
	State   ScanState `json:"state"`
	Reason  Code      `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	FixedIn string    `json:"fixed_in,omitempty"` // the first version with the vendor's fix, to compare with the one that runs
}

// Scan compares processes with prepatches. Processes that no prepatch is about
// give no result: those that run another executable or map no such library.
//
// Whether a build has the fix is told by a fingerprint that knows it. Without
// one it cannot be told from the outside: a ScanGuardable process has the function
// the prepatch is for, and FixedIn is for the operator to compare.
func Scan(ctx context.Context, prepatches []*Prepatch, sel Select) ([]ScanResult, error) {
	k := newKnown()
	defer k.close()
	return scanWith(ctx, k, prepatches, sel)
}

func scanWith(ctx context.Context, k *known, prepatches []*Prepatch, sel Select) ([]ScanResult, error) {
	pids, err := selected(ctx, sel)
	if err != nil {
		return nil, err
	}
	var out []ScanResult
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, err := openProcess(pid)
		if err != nil {
			continue // gone, or not ours to look at
		}
		out = append(out, scanProcess(k, p, prepatches)...)
		p.close()
	}
	return out, nil
}

// scanProcess opens the images of a process once, and only when a prepatch
// names its executable or no executable at all.
func scanProcess(k *known, p *process, prepatches []*Prepatch) []ScanResult {
	var out []ScanResult
	var images *locate.Set
	for _, pp := range prepatches {
		if !pp.about(p) {
			continue
		}
		if images == nil {
			set, err := k.files.Images(p.read)
			if err != nil {
				return out
			}
			defer set.Close()
			images = set
		}
		if r, ok := scanOne(k, p, pp, images); ok {
			out = append(out, r)
		}
	}
	return out
}

// about reports whether the process runs an executable a guard names. A guard
// that names a library alone is for any process.
func (p *Prepatch) about(proc *process) bool {
	for _, g := range p.Guards {
		if g.Exe == "" {
			return true
		}
		if ok, err := proc.read.RunsExe(g.Exe); err == nil && ok {
			return true
		}
	}
	return false
}

// anyProgram reports whether the prepatch is about every program that has its
// functions, whatever its name: those of a library that is linked in.
func (p *Prepatch) anyProgram() bool {
	return !slices.ContainsFunc(p.compiled.Guards, func(g compile.Guard) bool { return g.Exe != "" || g.Lib != "" })
}

// linkedIn reports whether the prepatch is about a Go package in any program.
func (p *Prepatch) linkedIn() bool {
	return p.anyProgram() && p.compiled.Guards[0].ABI == source.GoInternal
}

// isGo reports whether the executable is a Go program: the quick answer for
// the many processes that a guard of a Go package is not about.
func isGo(images *locate.Set) bool {
	_, err := images.Exe().File.GoTable()
	return !errors.Is(err, binfile.ErrNoTable)
}

func scanOne(k *known, p *process, pp *Prepatch, images *locate.Set) (ScanResult, bool) {
	r := ScanResult{ID: pp.ID, Pid: p.pid, Parent: parentOf(p.pid), Exe: p.exe, State: ScanGuardable}
	in, err := alreadyIn(p, pp)
	if in != nil {
		r.State = ScanGuarded
		return r, true
	}
	if pp.linkedIn() && !isGo(images) {
		return r, false
	}
	at := resolved{known: k, images: images}
	for _, g := range pp.compiled.Guards {
		if err == nil {
			_, err = at.find(pp, g.Guard, Options{})
		}
	}
	var library *locate.NoLibrary
	var function *locate.NotFound
	if errors.As(err, &library) || errors.Is(err, locate.ErrOtherExe) || pp.anyProgram() && errors.As(err, &function) {
		return r, false
	}
	err = explain(err, p.String())
	switch {
	case err == nil:
		r.FixedIn = pp.Fixed
	case ReasonOf(err) == CodeFixed:
		r.State = ScanFixed
	default:
		r.State, r.Reason, r.Message = ScanRefused, ReasonOf(err), err.Error()
	}
	return r, true
}
