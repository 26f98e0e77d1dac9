package pie

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/recorder"
	"github.com/patch-integration-engine/pie/internal/guard/recording"
	"github.com/patch-integration-engine/pie/internal/guard/replay"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Evidence says what a recording may hold.
type Evidence string

// Evidence, from //pie:evidence.
const (
	EvidenceNone   Evidence = "none"   // calls are not recorded
	EvidenceArgs   Evidence = "args"   // argument words
	EvidenceMemory Evidence = "memory" // and what the guard reads of memory
)

// Evidence returns what a recording of p's guards may hold.
func (p *Prepatch) Evidence() Evidence {
	switch p.compiled.Evidence {
	case source.EvidenceNone:
		return EvidenceNone
	case source.EvidenceMemory:
		return EvidenceMemory
	}
	return EvidenceArgs
}

// RecordOptions are the operator's decisions for one recording.
type RecordOptions struct {
	Evidence Evidence      // less than the prepatch allows; empty: what it allows
	For      time.Duration // how long; 0: until ctx ends
	Every    uint64        // one in so many calls; 0 and 1: each
	Rate     int           // at most so many calls a second of each process; 0: DefaultRate
	MaxCalls uint64        // 0: no limit
	MaxSize  int64         // bytes of the file, about; 0: no limit
	PerCall  int           // bytes kept of one call, 256 to 8192; 0: what suits the evidence
	// Insert says how the recorders go in; Mode, Trial and MaxReject do not matter.
	Insert Options
	Tell   func(RecordReport) // told every second how far it is; may be nil
}

// DefaultRate is how many calls a second of a process are recorded at most: it
// bounds what recording costs it.
const DefaultRate = 10_000

// RecordReport is what a recording came to.
type RecordReport struct {
	ID        string        `json:"id"`
	Evidence  Evidence      `json:"evidence"`
	Processes []int         `json:"processes"`
	Recorded  uint64        `json:"recorded"`
	Calls     uint64        `json:"calls"`    // made meanwhile, as the processes counted them
	Cut       uint64        `json:"cut"`      // recorded calls whose memory is not whole
	Lost      uint64        `json:"lost"`     // taken down, but not readable
	Size      int64         `json:"size"`     // bytes
	Pause     time.Duration `json:"pause_ns"` // the longest time a thread was stopped
	Took      time.Duration `json:"took_ns"`
	Why       string        `json:"why"`             // it ended
	Left      []string      `json:"left,omitempty"`  // processes whose recorder could not be taken out
	Notes     []string      `json:"notes,omitempty"` // what the operator should know
}

// RecordID is the id under which a prepatch's recorders are in a process. Where it
// would not fit there, the end of id is replaced by a hash of it.
func RecordID(id string) string {
	if len(recordPrefix)+len(id) <= arena.MaxID {
		return recordPrefix + id
	}
	sum := sha256.Sum256([]byte(id))
	end := "-" + hex.EncodeToString(sum[:4])
	return recordPrefix + id[:arena.MaxID-len(recordPrefix)-len(end)] + end
}

// recordPrefix begins no other id: package source refuses it.
const recordPrefix = source.RecorderPrefix

// IsRecorder tells whether a prepatch in a process is the recorders of Record, as
// its id says: at work, or left idle by one that was killed.
func IsRecorder(p PrepatchStatus) bool {
	return p.Mode == ModeAudit && strings.HasPrefix(p.ID, recordPrefix)
}

// Record puts recorders in place of p's guards into the selected processes, writes
// what they take down to w until o or ctx ends it, and takes them out again. No call
// is rejected, changed or held up. When this process dies, recording ends by itself
// as soon as the slots it has given leave for are full; the recorders stay in, idle,
// until Remove or another Record takes them out.
func Record(ctx context.Context, p *Prepatch, sel Select, o RecordOptions, w io.Writer) (*RecordReport, error) {
	rec, ring, err := recorders(p, &o)
	if err != nil {
		return nil, err
	}
	e, err := NewEngine()
	if err != nil {
		return nil, err
	}
	defer e.Close()
	s := &session{engine: e, p: rec, ring: ring, o: o, sel: sel, names: map[int]recording.Process{}, strangers: map[int]bool{}}
	s.report = RecordReport{ID: p.ID, Evidence: o.Evidence}
	if s.out, err = recording.NewWriter(w, s.header(p)); err != nil {
		return nil, err
	}
	return s.run(ctx)
}

// recorders makes the prepatch that records, and completes o.
func recorders(p *Prepatch, o *RecordOptions) (*Prepatch, recorder.Ring, error) {
	allowed := p.Evidence()
	switch {
	case allowed == EvidenceNone:
		return nil, recorder.Ring{}, refuse(CodeEvidence, nil, "ask its author, or change the line //pie:evidence in a copy of it", "%s does not allow its calls to be recorded (//pie:evidence none)", p.ID)
	case o.Evidence == "":
		o.Evidence = allowed
	case o.Evidence == EvidenceMemory && allowed != EvidenceMemory:
		return nil, recorder.Ring{}, refuse(CodeEvidence, nil, "record with --evidence args, or say //pie:evidence memory in a copy of it", "%s allows argument words to be recorded, not memory", p.ID)
	}
	if o.Rate <= 0 {
		o.Rate = DefaultRate
	}
	memory := o.Evidence == EvidenceMemory
	if o.PerCall == 0 && memory {
		o.PerCall = 1024
	}
	ring, err := recorder.NewRing(uint32(p.State), o.PerCall)
	if err != nil {
		return nil, ring, refuse(CodeRecord, err, "record another guard of this function", "%s: %v", p.ID, err)
	}
	out := &Prepatch{
		ID: RecordID(p.ID), Expires: p.Expires, Guards: p.Guards, fingerprints: p.fingerprints, State: int(ring.State()),
		compiled: &compile.Prepatch{Prepatch: p.compiled.Prepatch, Hash: recorder.Hash(p.Hash(), memory, ring)},
	}
	for k, prog := range p.programs {
		g := p.compiled.Guards[k]
		args := 6
		if g.ABI == source.GoInternal {
			args = 9
		}
		made, err := recorder.Make(prog, recorder.Options{Guard: k, Args: args, Memory: memory, Ring: ring})
		if err != nil {
			return nil, ring, refuse(CodeRecord, err, "record argument words alone: --evidence args", "%s, guard %s: %v", p.ID, g.Name, err)
		}
		g.Unit = made.Unit()
		out.compiled.Guards = append(out.compiled.Guards, g)
		out.programs = append(out.programs, made)
	}
	return out, ring, nil
}

// session is one recording.
type session struct {
	engine *Engine
	p      *Prepatch // the recorders
	ring   recorder.Ring
	o      RecordOptions
	sel    Select
	out    *recording.Writer
	report RecordReport
	names  map[int]recording.Process // where the recorders went, by pid
	taps   []*tap
	// strangers are processes without recorders that were looked at this second.
	strangers map[int]bool
	before    map[string]uint64 // calls counted at the begin, by counters
	begin     time.Time
}

func (s *session) header(p *Prepatch) recording.Header {
	hash := p.Hash()
	h := recording.Header{
		ID: p.ID, Hash: hex.EncodeToString(hash[:]), Build: s.o.Insert.Build, Begin: time.Now(), Clock: monotonic(),
		Every: max(s.o.Every, 1), Memory: s.o.Evidence == EvidenceMemory,
	}
	for _, g := range p.compiled.Guards {
		h.Guards = append(h.Guards, recording.Guard{Name: g.Name, Exe: g.Exe, Lib: g.Lib, Func: g.Func})
	}
	return h
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, as HelperNow tells it.
func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}

func (s *session) run(ctx context.Context) (*RecordReport, error) {
	if err := s.clear(ctx); err != nil {
		return nil, err
	}
	insert := s.o.Insert
	insert.Mode, insert.Trial, insert.MaxReject = ModeAudit, 0, 0
	insert.placed = s.placed
	inserted, err := s.engine.Insert(ctx, s.p, s.sel, insert)
	if err != nil {
		return nil, err
	}
	s.begin = time.Now()
	s.report.Pause = inserted.Pause()
	for _, r := range inserted.Processes {
		s.report.Notes = append(s.report.Notes, r.Notes...)
		if r.State != StateGuarded {
			s.report.Notes = append(s.report.Notes, fmt.Sprintf("pid %d (%s) is not recorded: %s", r.Pid, baseName(r.Exe), r.Error))
			continue
		}
		if err := s.open(r.Pid, false); err != nil {
			s.report.Notes = append(s.report.Notes, err.Error())
		}
	}
	s.before = s.counts()
	err = s.follow(ctx)
	return s.end(err)
}

// clear takes out the recorders that a killed pie left, unless another one is at
// work with them.
func (s *session) clear(ctx context.Context) error {
	pids, err := selected(ctx, s.sel)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if by := s.recordedBy(pid); by != 0 {
			return refuse(CodeRecord, nil, "wait for it, or end it", "pid %d is being recorded by pid %d already", pid, by)
		}
	}
	_, err = s.engine.Remove(ctx, s.p.ID, s.sel)
	if ReasonOf(err) == CodeNotIn {
		return nil
	}
	return err
}

// placed remembers where the recorders go in a process.
func (s *session) placed(pid int, r *resolved) {
	p := recording.Process{Pid: pid, Exe: exePath(pid)}
	for k, g := range r.plan.Guards() {
		f := r.guards[k].function
		index := 0
		for i := range s.p.compiled.Guards {
			if s.p.compiled.Guards[i].Name == g.Name {
				index = i
			}
		}
		place := recording.Place{Guard: index, Image: f.Image.Name(), BuildID: hex.EncodeToString(f.Image.File.BuildID())}
		for _, sym := range s.p.programs[index].Unit().Symbols {
			if a, err := r.images.Symbol(f.Image, sym); err == nil {
				if place.Symbols == nil {
					place.Symbols = map[string]uint64{}
				}
				place.Symbols[replay.SymbolKey(sym)] = uint64(a)
			}
		}
		p.Places = append(p.Places, place)
	}
	s.names[pid] = p
}

// counts are the calls that the recorders have seen, by the memory they are in.
func (s *session) counts() map[string]uint64 {
	counts := map[string]uint64{}
	for _, t := range s.taps {
		st, err := statusOf(t.pid)
		if err != nil {
			continue
		}
		for _, in := range st.Prepatches {
			if in.ID != s.p.ID {
				continue
			}
			var n uint64
			for _, g := range in.Guards {
				n += g.Calls
			}
			counts[in.Counters] = max(counts[in.Counters], n)
		}
	}
	return counts
}

// end takes the recorders out, reads what is left, and closes the recording.
func (s *session) end(cause error) (*RecordReport, error) {
	// The operator's Ctrl-C ended the recording, not its end.
	ctx, stop := context.WithTimeout(context.Background(), endTime)
	defer stop()
	for counters, n := range s.counts() {
		s.report.Calls += n - min(n, s.before[counters])
	}
	s.withdraw()
	removed, err := s.engine.Remove(ctx, s.p.ID, s.sel)
	if err != nil && ReasonOf(err) != CodeNotIn && ReasonOf(err) != CodeNoProcess {
		s.report.Left = append(s.report.Left, err.Error())
	}
	if removed != nil {
		s.report.Pause = max(s.report.Pause, removed.Pause())
		for _, r := range removed.Processes {
			if r.Error != "" && r.State != StateGone {
				s.report.Left = append(s.report.Left, fmt.Sprintf("pid %d: %s", r.Pid, r.Error))
			}
		}
	}
	for _, t := range s.taps {
		if err := s.drain(t); err != nil && cause == nil && !errors.Is(err, tracee.ErrGone) {
			cause = err
		}
		s.report.Lost += t.pending()
		s.wipe(t)
		t.close()
	}
	s.report.Took = time.Since(s.begin)
	err = s.out.Close(recording.Total{
		End: time.Now(), Recorded: s.report.Recorded, Calls: s.report.Calls, Cut: s.report.Cut, Lost: s.report.Lost, Why: s.report.Why,
	})
	s.report.Size = s.out.Size()
	return &s.report, errors.Join(cause, err)
}

// endTime bounds taking the recorders out.
const endTime = time.Minute
