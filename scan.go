package pie

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/proc"
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
	s := scan{known: k, load: func() ([]*Prepatch, error) { return prepatches, nil }, verdicts: map[string][]verdict{}}
	return s.run(ctx, sel)
}

// scan is one call of Scan. Most processes of a machine run few programs with the
// same libraries: what was found out about one holds for all that map the same.
type scan struct {
	known      *known
	load       func() ([]*Prepatch, error)
	prepatches []*Prepatch          // loaded; nil until they are needed
	verdicts   map[string][]verdict // of every prepatch, by what a process maps
	kept       *unconcerned         // from scans before; may be nil
}

func (s *scan) run(ctx context.Context, sel Select) ([]ScanResult, error) {
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
		results, err := s.process(p)
		p.close()
		if err != nil {
			return nil, err
		}
		out = append(out, results...)
	}
	return out, nil
}

// verdict is what one prepatch is to processes that map the same files.
type verdict struct {
	about bool
	err   error // why it cannot be guarded, or is not about them; nil when it can
}

// process tells what each prepatch is to a process. An error is about the
// prepatches.
func (s *scan) process(p *process) ([]ScanResult, error) {
	maps, err := p.read.Maps()
	if err != nil {
		return nil, nil // it ended
	}
	key := s.kept.key(p, maps)
	if s.kept.has(key) {
		return nil, nil
	}
	if s.prepatches == nil {
		if s.prepatches, err = s.load(); err != nil {
			return nil, err
		}
	}
	all, ok := s.verdicts[mapped(p, maps)]
	if !ok {
		var sure bool
		all, sure = s.judge(p)
		s.verdicts[mapped(p, maps)] = all
		if sure && !concerns(all) {
			s.kept.add(key)
		}
	}
	if !concerns(all) {
		return nil, nil
	}
	in, inErr := observe.StatusIn(p.read, maps)
	var out []ScanResult
	for i, v := range all {
		if v.about {
			out = append(out, scanResult(p, s.prepatches[i], v.err, in, inErr))
		}
	}
	return out, nil
}

func concerns(all []verdict) bool {
	return slices.ContainsFunc(all, func(v verdict) bool { return v.about })
}

// mapped names the code a process maps from files, and its root directory, in
// which executables are looked for by name.
func mapped(p *process, maps []proc.Mapping) string {
	var b strings.Builder
	id, err := p.read.ExeIdentity()
	fmt.Fprintln(&b, id, err == nil)
	if root, err := p.read.RootIdentity(); err == nil {
		fmt.Fprintln(&b, root)
	}
	for _, m := range maps {
		if m.Perms&proc.Exec != 0 && m.HasFile() {
			fmt.Fprintln(&b, m.File, m.Offset)
		}
	}
	return b.String()
}

// judge finds out what every prepatch is to processes like p. The images are
// opened only when one may be about it. It is sure when all of them could be read.
func (s *scan) judge(p *process) (all []verdict, sure bool) {
	all, sure = make([]verdict, len(s.prepatches)), true
	var images *locate.Set
	for i, pp := range s.prepatches {
		if !pp.about(p) {
			continue
		}
		if images == nil {
			set, err := s.known.files.Images(p.read)
			if err != nil {
				return all, false
			}
			defer set.Close()
			images, sure = set, len(set.Skipped) == 0
		}
		all[i] = judgeOne(s.known, pp, images)
		sure = sure && !errors.Is(all[i].err, proc.ErrGone)
	}
	return all, sure
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

func judgeOne(k *known, pp *Prepatch, images *locate.Set) verdict {
	if pp.linkedIn() && !isGo(images) {
		return verdict{}
	}
	at := resolved{known: k, images: images, terse: true}
	var err error
	for _, g := range pp.compiled.Guards {
		if err == nil {
			_, err = at.find(pp, g.Guard, Options{})
		}
	}
	var library *locate.NoLibrary
	var function *locate.NotFound
	if errors.As(err, &library) || errors.Is(err, locate.ErrOtherExe) || pp.anyProgram() && errors.As(err, &function) || errors.Is(err, proc.ErrGone) {
		return verdict{err: err}
	}
	return verdict{about: true, err: err}
}

// scanResult is what a prepatch is to one process: in holds what is in it.
func scanResult(p *process, pp *Prepatch, err error, in []observe.Prepatch, inErr error) ScanResult {
	r := ScanResult{ID: pp.ID, Pid: p.pid, Parent: parentOf(p.pid), Exe: p.exe, State: ScanGuardable}
	already, alreadyErr := alreadyAmong(p, pp, in, inErr)
	if already != nil {
		r.State = ScanGuarded
		return r
	}
	if alreadyErr != nil {
		err = alreadyErr
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
	return r
}
