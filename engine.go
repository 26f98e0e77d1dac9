package pie

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/debuginfod"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Engine carries out verbs and keeps what they share: the thread that stops
// processes with its watchdog, and what was read of program files. The functions
// of this package make one for themselves each time; who guards process after
// process, an agent, keeps one. It does one verb at a time.
type Engine struct {
	mu     sync.Mutex
	tracer *tracee.Tracer
	known  *known
}

// NewEngine starts the thread and the watchdog process.
func NewEngine() (*Engine, error) {
	t, err := tracee.NewTracer(tracee.Options{})
	if err != nil {
		return nil, fmt.Errorf("preparing to stop threads: %w", err)
	}
	return &Engine{tracer: t, known: newKnown()}, nil
}

// Close ends the thread and the watchdog. Guarded processes are not touched.
func (e *Engine) Close() error {
	defer e.begin()()
	e.known.close()
	return e.tracer.Close()
}

// begin waits for the verb that is being done.
func (e *Engine) begin() (end func()) {
	e.mu.Lock()
	e.known.trim()
	return e.mu.Unlock
}

// ready is the tracer, as insertWith asks for it.
func (e *Engine) ready() (*tracee.Tracer, error) { return e.tracer, nil }

// Insert is the function Insert.
func (e *Engine) Insert(ctx context.Context, p *Prepatch, sel Select, o Options) (*Report, error) {
	defer e.begin()()
	o.known = e.known
	return insertWith(ctx, e.ready, p, sel, o)
}

// Remove is the function Remove.
func (e *Engine) Remove(ctx context.Context, id string, sel Select) (*Report, error) {
	defer e.begin()()
	return removal(id).run(ctx, e.tracer, sel)
}

// SetMode is the function SetMode.
func (e *Engine) SetMode(ctx context.Context, id string, m Mode, sel Select) (*Report, error) {
	defer e.begin()()
	return modeChange(id, m).run(ctx, e.tracer, sel)
}

// Scan is the function Scan.
func (e *Engine) Scan(ctx context.Context, prepatches []*Prepatch, sel Select) ([]ScanResult, error) {
	defer e.begin()()
	return scanWith(ctx, e.known, prepatches, sel)
}

// Prepare reads what p will need of the executable at path, so that a process
// that is held need not wait for it. What cannot be read then is read later.
func (e *Engine) Prepare(path string, p *Prepatch) {
	defer e.begin()()
	self, err := proc.Open(os.Getpid())
	if err != nil {
		return
	}
	defer self.Close()
	f, err := self.OpenInRoot(path)
	if err != nil {
		return
	}
	file, err := e.known.files.Read(f)
	if err != nil {
		return
	}
	rs, err := newResolver(context.Background(), p, Options{known: e.known})
	if err != nil {
		return
	}
	e.prepareSandbox(self, path, file, p)
	for i, g := range p.compiled.Guards {
		fp := p.fingerprintOf(g.Guard)
		at, err := locate.InFile(file, path, g.Func)
		if err != nil {
			if fp != nil {
				_, _ = e.known.match(file, fp)
			}
			continue
		}
		fn := locate.Function{Name: g.Func, Vaddr: at, Image: &locate.Image{Path: path, IsExe: true, File: file}}
		_, _, _ = rs.debugNotes(fn, i)
		_, _, _ = e.known.segment(fn)
		if fp != nil && fp.KnowsFix() {
			_, _ = e.known.judge(file, fp, at)
		}
	}
}

// known is what was read of program files: the same program runs in many
// processes. It is not safe for concurrent use.
type known struct {
	files   *locate.Files
	modules map[*binfile.File]module
	notes   map[noted]notes
	// judged and matched are what fingerprints said: to ask one takes tens of
	// milliseconds in a large program, longer than all else about a process.
	judged  map[comparison]fingerprint.Fix
	matched map[comparison]fingerprint.Finding
	// code is the executable segments that functions were found in.
	code map[place]*segment
	// linked are the executables that could not be guarded before their libraries were there.
	linked map[*binfile.File]bool
	// sandboxes is what executables show of a sandbox that they may enter.
	sandboxes map[*binfile.File]sandboxing
	host      tracee.Host
	servers   []string // debuginfod servers that files asks
	client    *debuginfod.Client
}

// place is where a segment is in which file.
type place struct {
	file *binfile.File
	at   address.Vaddr
}

// segment is the bytes of an executable segment, and what was found in them.
type segment struct {
	code      []byte
	entrances plan.Entrances
}

// module is a file as functions that call each other, or why it has none.
type module struct {
	*fingerprint.Module
	err error
}

// comparison is a fingerprint that was asked about a file: about the function at an address
// of it, or with address 0 where the function is.
type comparison struct {
	file *binfile.File
	fp   *fingerprintFile
	at   address.Vaddr
}

// noted is what debug information was asked about: a guard of a prepatch in
// front of a function of a file.
type noted struct {
	file  *binfile.File
	at    address.Vaddr
	hash  [32]byte
	guard int
}

// notes is the answer.
type notes struct {
	lines   []string
	inlined int // places where the function was inlined
	err     error
}

// maxKnown bounds the files that an Engine keeps open between verbs.
const maxKnown = 256

func newKnown() *known {
	return &known{files: locate.NewFiles(), modules: map[*binfile.File]module{}, notes: map[noted]notes{}, code: map[place]*segment{}, linked: map[*binfile.File]bool{},
		sandboxes: map[*binfile.File]sandboxing{},
		judged:    map[comparison]fingerprint.Fix{}, matched: map[comparison]fingerprint.Finding{}}
}

// ask makes these the debuginfod servers that are asked from now on, until ctx ends.
func (k *known) ask(ctx context.Context, servers []string) error {
	if !slices.Equal(k.servers, servers) {
		var client *debuginfod.Client
		if len(servers) > 0 {
			var err error
			if client, err = debuginfod.New(servers); err != nil {
				return err
			}
		}
		if k.client != nil {
			k.client.Close()
		}
		k.client, k.servers = client, servers
	}
	if k.files.Servers = nil; k.client != nil {
		k.files.Servers = k.client.Within(ctx)
	}
	return nil
}

func (k *known) close() {
	k.files.Close()
	clear(k.modules)
	clear(k.notes)
	clear(k.judged)
	clear(k.matched)
	clear(k.code)
	clear(k.linked)
	clear(k.sandboxes)
}

// trim forgets all when it has become much. Nothing that was found may be in use.
func (k *known) trim() {
	if k.files.Len() > maxKnown {
		k.close()
	}
}

// analyze is fingerprint.Analyze, asked once.
func (k *known) analyze(f *binfile.File) (*fingerprint.Module, error) {
	m, ok := k.modules[f]
	if !ok {
		m.Module, m.err = fingerprint.Analyze(f)
		k.modules[f] = m
	}
	return m.Module, m.err
}

// judge tells whether the function at an address has the fix that fp knows, asked once.
func (k *known) judge(f *binfile.File, fp *fingerprintFile, at address.Vaddr) (fingerprint.Fix, error) {
	about := comparison{f, fp, at}
	fix, ok := k.judged[about]
	if !ok {
		m, err := k.analyze(f)
		if err != nil {
			return fix, err
		}
		fix = m.Fixed(fp.Outline, at)
		k.judged[about] = fix
	}
	return fix, nil
}

// match finds the function of fp in a file, asked once.
func (k *known) match(f *binfile.File, fp *fingerprintFile) (fingerprint.Finding, error) {
	about := comparison{file: f, fp: fp}
	found, ok := k.matched[about]
	if !ok {
		m, err := k.analyze(f)
		if err != nil {
			return found, err
		}
		whole, err := fp.whole()
		if err != nil {
			return found, err
		}
		found = m.Find(whole)
		k.matched[about] = found
	}
	return found, nil
}

// debugNotes returns what debug information says, as read finds it.
func (k *known) debugNotes(about noted, read func() notes) notes {
	n, ok := k.notes[about]
	if !ok {
		n = read()
		k.notes[about] = n
	}
	return n
}

const (
	// maxSegment bounds a segment of code, in bytes. The largest programs have a
	// quarter of it; the file of an enemy may be sparse, and of any size.
	maxSegment = 1 << 30
	// maxCode bounds the segments that are kept, in bytes, but for the last one.
	maxCode = 512 << 20
)

// segment returns the executable segment around a function, and where it is; nil where
// the file has none.
func (k *known) segment(f locate.Function) (*segment, address.Addr, error) {
	for _, s := range f.Image.File.Segments {
		if s.Type != elf.PT_LOAD || s.Flags&elf.PF_X == 0 || f.Vaddr < s.Vaddr || uint64(f.Vaddr-s.Vaddr) >= s.Filesz {
			continue
		}
		at := place{f.Image.File, s.Vaddr}
		kept, ok := k.code[at]
		if !ok {
			if s.Filesz > maxSegment {
				return nil, 0, refuse(CodeUnsupported, nil, "guard a function of another file: no program that is known has so much code",
					"%s has %d MiB of code in one segment, and %d are looked through", f.Image.Name(), s.Filesz>>20, maxSegment>>20)
			}
			kept = &segment{code: make([]byte, s.Filesz)}
			if err := f.Image.File.ReadVaddr(kept.code, s.Vaddr); err != nil {
				return nil, 0, err
			}
			k.keepCode(at, kept)
		}
		return kept, s.Vaddr.Addr(f.Image.Bias), nil
	}
	return nil, 0, nil
}

// keepCode keeps a segment, and forgets all others when they have become much.
func (k *known) keepCode(at place, s *segment) {
	total := 0
	for _, kept := range k.code {
		total += len(kept.code)
	}
	if total > maxCode {
		clear(k.code)
	}
	k.code[at] = s
}
