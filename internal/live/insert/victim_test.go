package insert

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/lastwords"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// victim is a running testdata/victim.
type victim struct {
	pid      int
	p        *tracee.Process
	exe, lib address.Addr
	stats    address.Addr
	cmd      *exec.Cmd
	// mayEndEarly: a tracer that is killed right after an interrupt leaves the
	// EINTR that epoll_wait(2) gives on any stop; no one else can take it back.
	mayEndEarly bool
	in          io.Closer
}

// stats is struct stats of victim.c.
type stats struct{ Calls, Wrong, Rejected, Passed, Children, BadChildren, Early uint64 }

var buildVictim = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pie-insert-victim")
	if err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"-O2", "-shared", "-fPIC", "-o", filepath.Join(dir, "libvictim.so"), "testdata/libvictim.c"},
		{"-O2", "-pthread", "-o", filepath.Join(dir, "victim"), "testdata/victim.c", "-L" + dir, "-lvictim", "-Wl,-rpath," + dir},
	} {
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("gcc %v: %w: install gcc and libc6-dev\n%s", args, err, out)
		}
	}
	return dir, nil
})

// witness says in which test this process was killed, if it was.
var witness *lastwords.Witness

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case spyName:
			sayAndExit(runSpy(os.Args[2:]))
		case cyclerName:
			sayAndExit(beCycler(os.Args[2:]))
		}
	}
	witness = lastwords.Start()
	code := m.Run()
	witness.End()
	if dir, err := buildVictim(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// sayAndExit ends a helper of the tests.
func sayAndExit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	os.Exit(0)
}

func startVictim(t testing.TB, args ...string) *victim {
	t.Helper()
	dir, err := buildVictim()
	if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, exec.Command(filepath.Join(dir, "victim"), args...))
}

// startProgram starts a victim, which says where everything is.
func startProgram(t testing.TB, cmd *exec.Cmd) *victim {
	t.Helper()
	witness.Begins(t)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := &victim{pid: cmd.Process.Pid, cmd: cmd, in: in}
	t.Cleanup(v.stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the victim says nothing: %v", err)
	}
	if _, err := fmt.Sscanf(line, "exe=%v lib=%v stats=%v", (*hex)(&v.exe), (*hex)(&v.lib), (*hex)(&v.stats)); err != nil {
		t.Fatalf("the victim says %q: %v", line, err)
	}
	v.p = v.open(t)
	return v
}

type hex address.Addr

func (h *hex) Scan(s fmt.ScanState, _ rune) error {
	tok, err := s.Token(false, nil)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(string(tok), 0, 64)
	*h = hex(n)
	return err
}

// stop ends the victim.
func (v *victim) stop() {
	v.cmd.Process.Kill()
	v.cmd.Wait()
}

func (v *victim) numbers() []string {
	return []string{strconv.Itoa(v.pid), v.exe.String(), v.lib.String()}
}

func (v *victim) open(t testing.TB) *tracee.Process {
	t.Helper()
	p, err := tracee.Open(v.pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func (v *victim) read(t testing.TB) stats {
	t.Helper()
	b := make([]byte, 56)
	if _, err := v.p.ReadAt(b, v.stats); err != nil {
		t.Fatalf("the victim is gone: %v", err)
	}
	var s stats
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// progress waits until the victim has made many calls more, and fails when that
// takes longer than limit or a result was wrong. It returns what the calls did.
func (v *victim) progress(t testing.TB, limit time.Duration) stats {
	t.Helper()
	from, deadline := v.read(t), time.Now().Add(limit)
	for {
		now := v.read(t)
		if now.Wrong != 0 || now.BadChildren != 0 {
			t.Fatalf("the victim got %d wrong results, %d in children", now.Wrong, now.BadChildren)
		}
		if now.Early != from.Early && !v.mayEndEarly {
			t.Errorf("epoll_wait ended early %d times", now.Early-from.Early)
		}
		if now.Calls > from.Calls+2000 {
			return stats{Calls: now.Calls - from.Calls, Rejected: now.Rejected - from.Rejected, Passed: now.Passed - from.Passed, Children: now.Children - from.Children}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the victim made %d calls in %v", now.Calls-from.Calls, limit)
		}
		time.Sleep(time.Millisecond)
	}
}

// quiet waits until no call is rejected any more: on a busy machine a thread
// may stay in a removed guard for a while.
func (v *victim) quiet(t testing.TB) {
	t.Helper()
	for range 20 {
		if s := v.progress(t, slow); s.Rejected == 0 && s.Passed > 0 {
			return
		}
	}
	t.Fatal("removed, but calls are still rejected")
}

func newTracer(t testing.TB) *tracee.Tracer {
	t.Helper()
	tr, err := tracee.NewTracer(tracee.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// rejected is what the hand-made guards return for negative numbers.
const rejected = -7777

// siteOff and siteLen are the site in a function of guarded.h.
const siteOff, siteLen = 4, 8

// handMade plans one guard for each function, without a compiler: it rejects
// negative numbers.
func handMade(t testing.TB, p *tracee.Process, id string, functions ...address.Addr) prepatch {
	t.Helper()
	pp, err := tryHandMade(p, id, functions...)
	if err != nil {
		t.Fatal(err)
	}
	return pp
}

func tryHandMade(p *tracee.Process, id string, functions ...address.Addr) (prepatch, error) {
	return tryMade(p, id, plain, functions...)
}

// kind is a guard in machine code, which passes at its end.
type kind struct {
	hash   byte // of the prepatch
	code   func(arena.Place) *jit.Code
	punned bool // the jump of the first function replaces one instruction, push %rbp
}

var (
	plain  = kind{'p', rejectNegative, false}
	table  = kind{'t', faulting, false}
	punned = kind{'u', rejectNegative, true}
)

// tryMade plans a guard of kind k for each function.
func tryMade(p *tracee.Process, id string, k kind, functions ...address.Addr) (prepatch, error) {
	space, err := Space(p, "test")
	if err != nil {
		return prepatch{}, err
	}
	pp := prepatch{id: id, hash: [32]byte{k.hash, id[len(id)-1]}}
	for i, f := range functions {
		make := handMadeGuard
		if k.punned && i == 0 {
			make = punnedGuard
		}
		g, err := make(p, space, pp.hash, f, i, k.code, (*arena.Arena).Allot)
		if err != nil {
			return prepatch{}, err
		}
		pp.guards = append(pp.guards, g)
	}
	return pp, nil
}

func handMadeGuard(p *tracee.Process, space *arena.Space, hash [32]byte, f address.Addr, i int, write func(arena.Place) *jit.Code, allot func(*arena.Arena, arena.Need) (arena.Place, error)) (plan.Guard, error) {
	image, m, err := imageOf(p, f)
	if err != nil {
		return plan.Guard{}, err
	}
	a, err := space.Near(image)
	if err != nil {
		return plan.Guard{}, err
	}
	site := f + siteOff
	original := []byte{0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10}
	pl, err := allot(a, arena.Need{Program: hash, Guard: fmt.Sprint("G", i), Site: site, Site0: original})
	if err != nil {
		return plan.Guard{}, err
	}
	code := write(pl)
	faults, err := goOn(code, pl, site, original)
	if err != nil {
		return plan.Guard{}, err
	}
	if err := a.Fit(pl, len(code.Bytes)); err != nil {
		return plan.Guard{}, err
	}
	moved := pl.Code.Add(int64(code.Link + jit.LinkSize))
	return plan.Guard{
		Place: pl, Function: "guarded", Image: arena.Image{Name: filepath.Base(m.Path), Inode: m.File.Inode},
		Site: site, SiteOff: m.Offset + address.Off(site-m.Start),
		Original: original, Patch: append(jmp(site, pl.Code), 0xcc, 0xcc, 0xcc),
		Moves:  []plan.Move{{From: site + 1, To: moved + 1}, {From: site + 4, To: moved + 4}},
		Code:   code,
		Faults: faults,
	}, nil
}

// goOn ends a guard's code with its link and the bytes that moved from the site, to behind
// which it jumps, and returns how its reads are caught.
func goOn(code *jit.Code, pl arena.Place, site address.Addr, moved []byte) (jit.FaultMode, error) {
	faults := jit.Probe
	if len(code.Faults) > 0 {
		faults = jit.Table
	}
	for !jit.LinkFits(len(code.Bytes)) {
		code.Bytes = append(code.Bytes, 0x90)
	}
	code.Body, code.Link = 0, len(code.Bytes)
	link, err := jit.Link(pl.Code.Add(int64(code.Link)), 0)
	if err != nil {
		return faults, err
	}
	n := int64(len(moved))
	after := pl.Code.Add(int64(code.Link+jit.LinkSize) + n)
	code.Bytes = append(append(code.Bytes, link...), moved...)
	code.Bytes = append(code.Bytes, jmp(after, site.Add(n))...)
	code.End = len(code.Bytes)
	return faults, nil
}

// imageOf is the range of the file mapped at a, and the mapping a is in.
func imageOf(p *tracee.Process, a address.Addr) (arena.Range, proc.Mapping, error) {
	maps, err := p.Maps()
	if err != nil {
		return arena.Range{}, proc.Mapping{}, err
	}
	var at proc.Mapping
	for _, m := range maps {
		if m.Contains(a) {
			at = m
		}
	}
	var r arena.Range
	for _, m := range maps {
		if m.HasFile() && m.File == at.File {
			if r.Start == 0 {
				r.Start = m.Start
			}
			r.End = m.End
		}
	}
	if r.Start == 0 {
		return r, at, fmt.Errorf("no file is mapped at %v", a)
	}
	return r, at, nil
}

func jmp(from, to address.Addr) []byte {
	return binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(to-from-5))
}

// rejectNegative is a guard in machine code: it counts, and when edi < 0 it
// returns rejected, or in audit mode counts that it would have. eax is free.
func rejectNegative(pl arena.Place) *jit.Code {
	var b []byte
	rip := func(op []byte, to address.Addr) {
		b = append(b, op...)
		b = binary.LittleEndian.AppendUint32(b, uint32(to-pl.Code-address.Addr(len(b))-4))
	}
	lockInc := []byte{0xf0, 0x48, 0xff, 0x05}
	rip([]byte{0x8b, 0x05}, pl.Control+jit.ControlMode) // mov mode(%rip),%eax
	b = append(b, 0x85, 0xc0)                           // test %eax,%eax
	b = append(b, 0x74, 39)                             // jz pass
	rip(lockInc, pl.Counters+jit.CounterCalls)          // 8 bytes
	b = append(b, 0x85, 0xff)                           // test %edi,%edi
	b = append(b, 0x79, 27)                             // jns pass
	b = append(b, 0x83, 0xf8, byte(jit.ModeEnforce))    // cmp $2,%eax
	b = append(b, 0x75, 14)                             // jne audited
	rip(lockInc, pl.Counters+jit.CounterRejects)
	b = append(b, 0xb8) // mov $rejected,%eax
	b = binary.LittleEndian.AppendUint32(b, uint32(0xffff_ffff+rejected+1))
	b = append(b, 0xc3) // ret
	rip(lockInc, pl.Counters+jit.CounterAudited)
	return &jit.Code{Bytes: b} // pass: the link follows
}

// textEqualsFile compares every executable mapping of the two images with
// their files.
func textEqualsFile(t testing.TB, p *tracee.Process) {
	t.Helper()
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, m := range maps {
		if m.Perms&proc.Exec == 0 || !m.HasFile() {
			continue
		}
		f, err := p.OpenMapped(m)
		if err != nil {
			t.Fatal(err)
		}
		want, got := make([]byte, m.Size()), make([]byte, m.Size())
		n, err := f.ReadAt(want, int64(m.Offset))
		f.Close()
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if _, err := p.ReadAt(got, m.Start); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:n], want[:n]) {
			t.Errorf("the text of %s differs from the file", m.Path)
		}
		checked++
	}
	if checked == 0 {
		t.Fatalf("nothing was compared")
	}
}

func ctxFor(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
