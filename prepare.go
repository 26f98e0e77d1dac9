package pie

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// resolver resolves one prepatch against processes, one after another. Those of
// a family map the same files, and share what is known of them.
type resolver struct {
	p     *Prepatch
	o     Options
	known *known
	// tableRisk says why guards must not rely on signals, beside what the threads say; ""
	// for nothing.
	tableRisk string
	// locking has guards count with a lock, whatever the C library says.
	locking bool
}

func newResolver(ctx context.Context, p *Prepatch, o Options) (*resolver, error) {
	rs := &resolver{p: p, o: o, known: o.known}
	if rs.known == nil {
		rs.known = newKnown()
	}
	if err := rs.known.ask(ctx, o.Debuginfod); err != nil {
		rs.close()
		return nil, err
	}
	return rs, nil
}

// copying resolves as rs does, but has guards copy what they read, and says why.
func (rs *resolver) copying(why string) *resolver {
	c := *rs
	c.tableRisk = why
	return &c
}

// otherwise resolves as rs does, but for what an insertion was refused for, and says how;
// nil where there is no other way.
func (rs *resolver) otherwise(err error) (other *resolver, note string) {
	if errors.Is(err, insert.ErrNoRseq) && !rs.locking {
		c := *rs
		c.locking = true
		return &c, ""
	}
	if why := whyCopied(err); why != "" && rs.tableRisk == "" {
		return rs.copying(why), "memory is read by system calls, about 1 µs each: " + why
	}
	return nil, ""
}

// findAll looks for the functions that the prepatch guards, and for nothing else.
func (rs *resolver) findAll(p *process) error {
	images, err := rs.known.files.Images(p.read)
	if err != nil {
		return explain(err, p.String())
	}
	r := &resolved{known: rs.known, images: images, read: p.read}
	for _, g := range rs.p.compiled.Guards {
		if _, err := r.find(rs.p, g.Guard, rs.o); err != nil {
			return explain(err, p.String())
		}
	}
	return nil
}

// close forgets what is known, unless it is an Engine's.
func (rs *resolver) close() {
	if rs.o.known == nil {
		rs.known.close()
	}
}

// debugNotes is debugNotes, asked once.
func (rs *resolver) debugNotes(f locate.Function, guard int) (lines []string, inlined int, err error) {
	n := rs.known.debugNotes(noted{f.Image.File, f.Vaddr, rs.p.Hash(), guard}, func() (n notes) {
		n.lines, n.inlined, n.err = debugNotes(f, rs.p.compiled.Guards[guard], rs.p.programs[guard].Verdicts(), rs.p.guarded())
		return n
	})
	return n.lines, n.inlined, n.err
}

// resolved is a prepatch resolved against one process: nothing is attached.
type resolved struct {
	known  *known
	images *locate.Set
	read   *proc.Process
	terse  bool // no names like those that are not found
	plan   *plan.Plan
	guards []resolvedGuard // in the order of the plan's
	// mayCopy: reads by system calls would be no risk, where small signal stacks make
	// signals one. (Go's signal stacks are 32 KiB.)
	mayCopy bool
	// tableRisk says why reads must not rely on signals; empty when they may.
	tableRisk string
	// quiet: nothing can be mapped in the process, and its guards make no system call and
	// read no clock.
	quiet bool
	rseq  jit.RseqArea // what guards count with
	early bool         // the program has not run yet
	// filtered: a thread is under a seccomp filter, which may kill the program for a
	// system call of a guard's.
	filtered bool
}

// notYet is why table mode must not be used in a program that has not run yet.
const notYet = "the program may install signal handlers of its own over PIE's"

// asked is why table mode is not used where the operator says so.
const asked = "copied reads were asked for"

// resolvedGuard is what plan show tells of one guard beyond its plan.
type resolvedGuard struct {
	function locate.Function
	faults   string   // how its reads survive bad addresses; empty when it reads nothing
	notes    []string // what the operator should know, one line each
	inlined  int      // places where a compiler inlined the function, which no guard sees
}

// copies counts the places the guarded functions have in the process.
func (r *resolved) copies() Copies {
	c := Copies{Guarded: len(r.guards), All: len(r.guards)}
	for _, g := range r.guards {
		c.All += len(g.function.Copies) + g.inlined
	}
	return c
}

// resolve finds, checks and places every guard in p. space is the process's
// address space as the inserter or an observer sees it. What comes back is good
// until rs is closed.
func (rs *resolver) resolve(p *process, w *tracee.Process, space *arena.Space) (*resolved, error) {
	if err := p.checkTranslated(); err != nil {
		return nil, err
	}
	threads, err := insert.Survey(w)
	if err != nil {
		return nil, explain(err, p.String())
	}
	quiet := rs.o.quiet || threads.Seccomp == insert.SeccompStrict
	if quiet {
		if err := rs.mayBeQuiet(p); err != nil {
			return nil, err
		}
	}
	images, err := rs.known.files.Images(p.read)
	if err != nil {
		return nil, explain(err, p.String())
	}
	r := &resolved{known: rs.known, images: images, read: p.read, quiet: quiet, filtered: threads.Seccomp != 0, mayCopy: threads.Seccomp == 0 && !isGo(images), early: rs.o.early}
	switch {
	case rs.o.early:
		r.tableRisk = notYet
	case rs.o.CopyReads:
		r.tableRisk = asked
	case rs.tableRisk != "":
		r.tableRisk = rs.tableRisk
	default:
		r.tableRisk = threads.Risk
	}
	if off, ok := images.Rseq(); ok && !rs.locking && !isGo(images) { // threads of Go may not be the C library's
		r.rseq = jit.RseqArea{Known: true, Offset: off}
	}
	in := plan.Input{ID: rs.p.ID, Hash: rs.p.Hash(), Build: rs.o.Build, Space: space, Again: rs.o.again}
	if err := addState(&in, rs.p, w); err != nil {
		return nil, explain(err, p.String())
	}
	for i := range rs.p.compiled.Guards {
		if err := r.add(&in, rs, i); err != nil {
			return nil, explain(err, p.String())
		}
	}
	if quiet {
		r.usePadding(space, w)
	}
	if r.plan, err = plan.Build(in); err != nil {
		return nil, explain(err, p.String())
	}
	return r, nil
}

// add resolves guard i and appends it, once for each place its function is at.
func (r *resolved) add(in *plan.Input, rs *resolver, i int) error {
	g, prog := rs.p.compiled.Guards[i], rs.p.programs[i]
	found, err := r.find(rs.p, g.Guard, rs.o)
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Go != (g.ABI == source.GoInternal) {
			return refuseABI(f, g.ABI)
		}
		if len(f.Copies) > 0 && !rs.o.Partial {
			return refuseCopies(f)
		}
		if r.quiet {
			if err := mayBeQuiet(f, prog); err != nil {
				return err
			}
		}
		gi, err := r.input(f, g.Guard, prog)
		if err != nil {
			return err
		}
		in.Guards = append(in.Guards, gi)
		rg := resolvedGuard{function: f}
		if rg.notes, rg.inlined, err = rs.debugNotes(f, i); err != nil {
			return err
		}
		if readsTarget(prog) {
			rg.faults = faultWords(gi.Faults)
		}
		r.guards = append(r.guards, rg)
	}
	return nil
}

func refuseABI(f locate.Function, abi source.ABI) error {
	is, want := "C", "go"
	if f.Go {
		is = "Go"
	}
	if abi == source.SysV {
		want = "sysv"
	}
	return refuse(CodePlace, nil, "write abi=go or abi=sysv in //pie:guard as the function is", "%s in %s is %s code, and the guard is for abi=%s", f.Name, f.Image.Name(), is, want)
}

func refuseCopies(f locate.Function) error {
	r := refuse(CodeCopies, nil, "guard them too, or accept it with --partial", "%s in %s has copies that this guard would not see:", f.Name, f.Image.Name())
	r.Details = f.Copies
	return r
}

// input makes plan's input for one guard at one function.
func (r *resolved) input(f locate.Function, g source.Guard, prog *verify.Program) (plan.GuardInput, error) {
	gi := plan.GuardInput{Name: g.Name, Program: prog, Image: identify(f.Image), Mapped: span(f.Image)}
	off, ok := f.Image.File.Off(f.Vaddr)
	if !ok {
		return gi, fmt.Errorf("%s at %v: not in the file", f.Name, f.Vaddr)
	}
	gi.EntryOff = off
	gi.Function = plan.Function{Name: g.Func, Entry: f.Entry, Size: f.Size, Text: f.Text, Go: f.Go}
	gi.Gettid, gi.Rseq = r.mayAskTid(prog), r.rseq
	seg, at, err := r.known.segment(f)
	if err != nil {
		return gi, err
	}
	if seg != nil {
		gi.Function.Segment, gi.Function.SegmentAt, gi.Function.Entrances = seg.code, at, &seg.entrances
	}
	for _, s := range prog.Unit().Symbols {
		a, err := r.symbol(f.Image, s, prog.Calls())
		if err != nil {
			return gi, fmt.Errorf("what the guard %s refers to: %w", g.Name, err)
		}
		gi.Symbols = append(gi.Symbols, a)
	}
	if callsFunctions(prog) {
		if r.filtered {
			return gi, refuse(CodeSeccomp, nil, "use a guard that calls no function", "%s in %s: the guard calls functions of the program, for which it asks what stack it is on, and a seccomp filter may forbid that", f.Name, f.Image.Name())
		}
		gi.XSave = int32(tracee.XSaveSize())
	}
	if setsErrno(prog) || callsFunctions(prog) {
		off, err := r.images.Errno()
		if err != nil {
			return gi, fmt.Errorf("the guard %s sets or keeps errno: %w", g.Name, err)
		}
		gi.Errno = jit.ErrnoSlot{Known: true, Offset: off}
	}
	if asksThread(prog) {
		if gi.StackEnd, err = r.stackEnd(); err != nil {
			return gi, err
		}
		gi.Pointer = hasThreadPointer(r.images.Exe())
	}
	gi.Faults, err = r.faultMode(f, prog)
	return gi, err
}

// mayAskTid tells whether the guard may make gettid(2): only when it asks for the
// thread's id itself, and no thread is under a filter. Events alone are not worth it: a
// program may enter a sandbox later, as a server's child does after the fork, and
// the filter would kill it for PIE's call.
func (r *resolved) mayAskTid(prog *verify.Program) bool {
	for i, in := range prog.Unit().Insns {
		if prog.Reachable(i) && in.IsHelperCall() && bpf.Helper(in.Imm) == bpf.HelperTid {
			return !r.filtered
		}
	}
	return false
}

// symbol finds what a guard in image im refers to; it calls the functions of calls.
func (r *resolved) symbol(im *locate.Image, s bpf.Symbol, calls []string) (address.Addr, error) {
	if s.Kind == bpf.SymbolFunc && slices.Contains(calls, s.Name) {
		return r.images.Callable(im, s.Name)
	}
	return r.images.Symbol(im, s)
}

func callsFunctions(prog *verify.Program) bool { return len(prog.Calls()) > 0 }

func setsErrno(prog *verify.Program) bool {
	for _, v := range prog.Verdicts() {
		if v&bpf.VerdictErrno != 0 {
			return true
		}
	}
	return false
}

// faultMode chooses how the guard's reads survive a bad address. Table costs
// nothing a read, but needs the fault signals unblocked in every thread. Copy
// asks the kernel for every piece and has no race; it needs system calls, which a
// seccomp filter may answer by killing the program, one that is there or one that the
// program enters later.
func (r *resolved) faultMode(f locate.Function, prog *verify.Program) (jit.FaultMode, error) {
	if !readsTarget(prog) {
		return jit.Copy, nil
	}
	switch {
	case r.tableRisk == "":
		return jit.Table, nil
	case r.filtered:
	case r.tableRisk == asked: // by somebody who knows the program
		return jit.Copy, nil
	default:
		if sign := r.mayEnterSandbox(); sign != "" {
			return jit.Copy, r.refuseSandbox(f, sign)
		}
		return jit.Copy, nil
	}
	return jit.Copy, refuse(CodeSeccomp, nil, "use a guard that looks at registers only", "%s in %s: the guard reads memory, a seccomp filter may forbid the calls that takes, and %s", f.Name, f.Image.Name(), r.tableRisk)
}

// faultWords names a fault mode.
func faultWords(m jit.FaultMode) string {
	switch m {
	case jit.Table:
		return "table"
	case jit.Probe:
		return "probe"
	case jit.Copy:
		return "copy"
	}
	return fmt.Sprintf("mode %d", m)
}

// readsTarget tells whether the guard reads or writes the program's memory. How much of its
// stack a thread uses is not in it.
func readsTarget(prog *verify.Program) bool {
	for i, in := range prog.Unit().Insns {
		stack := in.IsHelperCall() && bpf.Helper(in.Imm) == bpf.HelperStackUsed
		if prog.Reachable(i) && prog.FaultPoint(i) && !stack {
			return true
		}
	}
	return false
}

// identify names the image in an arena: for comparing, and for people.
func identify(im *locate.Image) arena.Image {
	id := arena.Image{Name: im.Name(), BuildID: im.File.BuildID()}
	if len(im.Mappings) > 0 {
		file := im.Mappings[0].File
		id.Dev, id.Inode = unix.Mkdev(file.Major, file.Minor), file.Inode
	}
	return id
}

// span is the range from the first to the last mapping of an image.
func span(im *locate.Image) arena.Range {
	var s arena.Range
	for i, m := range im.Mappings {
		if i == 0 || m.Start < s.Start {
			s.Start = m.Start
		}
		s.End = max(s.End, m.End)
	}
	return s
}
