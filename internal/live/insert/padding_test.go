package insert

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// roomFor is how many bytes the segments of the boxed victim leave unused, at least.
const roomFor = 1600

// buildBoxed builds testdata/boxed.c so that its last pages have room: how long a static
// program is depends on the C library.
var buildBoxed = sync.OnceValues(func() (string, error) {
	dir, err := buildVictim()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "boxed")
	for text, data := 0, 0; text < 4096 && data < 4096; {
		out, err := exec.Command("gcc", "-O2", "-static", "-pthread", fmt.Sprintf("-DFILL_TEXT=%d", text), fmt.Sprintf("-DFILL_DATA=%d", data),
			"-o", path, "testdata/boxed.c").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("gcc: %w: install gcc and libc6-dev\n%s", err, out)
		}
		t, d, err := lastPages(path)
		switch {
		case err != nil:
			return "", err
		case t.End-t.Start < roomFor:
			text += 512
		case d.End-d.Start < roomFor:
			data += 512
		default:
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: its segments leave no room, whatever they are filled with", path)
})

// lastPages are the bytes that the code and the data of a program that is always mapped
// where it was linked for leave unused.
func lastPages(path string) (text, data arena.Range, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return text, data, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		end := address.Addr(p.Vaddr + p.Memsz)
		rest := arena.Range{Start: end, End: (end + 4095).Page()}
		switch {
		case p.Type != elf.PT_LOAD:
		case p.Flags&elf.PF_X != 0:
			text = rest
		case p.Flags&elf.PF_W != 0:
			data = rest
		}
	}
	return text, data, nil
}

// startBoxed starts a victim whose every thread is in a sandbox.
func startBoxed(t testing.TB, mode string, callers int) *victim {
	t.Helper()
	path, err := buildBoxed()
	if err != nil {
		t.Fatal(err)
	}
	v := startProgram(t, exec.Command(path, mode, strconv.Itoa(callers)))
	want := map[string]int{"strict": 1, "filter": 2}[mode]
	for range 1000 {
		if all, err := Survey(v.p); err == nil && all.Seccomp == want && boxed(t, v.p) == callers+1 {
			return v
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%v is not in its sandbox", v.cmd.Args)
	return nil
}

// boxed counts the threads under seccomp.
func boxed(t testing.TB, p *tracee.Process) (n int) {
	t.Helper()
	tids, err := p.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	for _, tid := range tids {
		if st, err := p.Task(tid); err == nil && st.Seccomp != 0 {
			n++
		}
	}
	return n
}

// tryPadded plans a guard for each function without a mapping.
func tryPadded(p *tracee.Process, id string, functions ...address.Addr) (prepatch, error) {
	space, err := Space(p, "test")
	if err != nil {
		return prepatch{}, err
	}
	text, data, err := lastPages(fmt.Sprintf("/proc/%d/exe", p.Pid()))
	if err != nil {
		return prepatch{}, err
	}
	UsePadding(p, space, []arena.Range{text}, []arena.Range{data})
	pp := prepatch{id: id, hash: [32]byte{'q', id[len(id)-1]}}
	for i, f := range functions {
		g, err := handMadeGuard(p, space, pp.hash, f, i, quietly, (*arena.Arena).Allot)
		if err != nil {
			return prepatch{}, err
		}
		pp.guards = append(pp.guards, g)
	}
	return pp, nil
}

// quietly is rejectNegative where the counters are a quiet guard's.
func quietly(pl arena.Place) *jit.Code {
	code := rejectNegative(pl)
	for _, off := range []int{jit.CounterRejects, jit.CounterAudited} {
		// Each is the operand of the only lock inc that leads there.
		for at := 0; at+8 <= len(code.Bytes); at++ {
			b := code.Bytes[at:]
			to := pl.Code.Add(int64(at) + 8 + int64(int32(binary.LittleEndian.Uint32(b[4:]))))
			if bytes.HasPrefix(b, []byte{0xf0, 0x48, 0xff, 0x05}) && to == pl.Counters.Add(int64(off)) {
				moved := to.Add(int64(jit.CounterAt(jit.QuietCountersSize, off) - off))
				binary.LittleEndian.PutUint32(b[4:], uint32(moved-pl.Code-address.Addr(at)-8))
			}
		}
	}
	return code
}

// untouched checks that the boxed victim is as it was before pie came: its code equals the
// file, and what its segments leave unused is zero.
func untouched(t testing.TB, v *victim, when string) {
	t.Helper()
	textEqualsFile(t, v.p)
	text, data, err := lastPages(v.cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []arena.Range{text, data} {
		b := make([]byte, r.End-r.Start)
		if _, err := v.p.ReadAt(b, r.Start); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Fatalf("%s: the bytes at %v are not as they were: % x", when, r.Start, b)
		}
	}
}

// The whole way, in both sandboxes: in, counted, off, on, out; every byte as it was; and the
// sandbox is in force all the while.
func TestPadding(t *testing.T) {
	for _, mode := range []string{"strict", "filter"} {
		t.Run(mode, func(t *testing.T) {
			v, tr, ctx := startBoxed(t, mode, 2), newTracer(t), context.Background()
			for round := range 5 {
				pp, err := tryPadded(v.p, "S-1", v.exe)
				must(t, err)
				report, err := insertGuards(ctx, tr, v.p, pp, Options{Mode: jit.ModeEnforce})
				must(t, err)
				if report.Threads != 3 {
					t.Errorf("%d threads stopped", report.Threads)
				}
				v.rejects(t, true)
				g := status(t, v, "S-1").Guards[0]
				if g.SiteState != observe.SiteIn || g.Counts.Calls == 0 || g.Counts.Rejects == 0 || g.Counts.Audited != 0 {
					t.Errorf("round %d: %+v", round, g)
				}
				if left := leftovers(t, v.p); len(left) > 0 {
					t.Errorf("round %d: left: %v", round, left)
				}
				for _, m := range []jit.Mode{jit.ModeOff, jit.ModeAudit, jit.ModeEnforce} {
					changed, err := SetMode(ctx, tr, v.p, "S-1", m)
					must(t, err)
					if v.rejects(t, m == jit.ModeEnforce); !changed {
						t.Errorf("round %d: mode %d: not changed", round, m)
					}
				}
				if c := status(t, v, "S-1").Guards[0].Counts; c.Audited == 0 {
					t.Errorf("round %d: in audit mode nothing was counted: %+v", round, c)
				}
				removal, err := Remove(ctx, tr, v.p, "S-1", nil)
				must(t, err)
				if removal.StaysKB != 0 {
					t.Errorf("round %d: %+v stays", round, removal)
				}
				v.quiet(t)
				untouched(t, v, fmt.Sprint("round ", round))
			}
			if got := boxed(t, v.p); got != 3 {
				t.Errorf("%d threads are in the sandbox", got)
			}
			v.forbidden(t)
		})
	}
}

// forbidden has the victim's main thread make a call that its sandbox ends it for: strict
// mode ends the thread, the filter the process.
func (v *victim) forbidden(t testing.TB) {
	t.Helper()
	if _, err := v.in.(io.Writer).Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if st, err := v.p.Task(v.pid); err != nil || st.State == 'Z' || st.State == 'X' {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("it made a forbidden call, and lives: the sandbox is not in force any more")
}

// rejects waits until all negative numbers are rejected, or none is: a thread that does not
// get a CPU may stay for a while in a call that began before.
func (v *victim) rejects(t testing.TB, all bool) {
	t.Helper()
	var s stats
	for range 10 {
		if s = v.progress(t, slow); (s.Passed == 0) == all && (s.Rejected == 0) != all {
			return
		}
	}
	t.Errorf("are all rejected, %v, and %+v", all, s)
}

// Several prepatches share the padding as long as it has room for their records; then one
// is refused, and nothing changes. They leave in any order.
func TestPaddingFull(t *testing.T) {
	v, tr, ctx := startBoxed(t, "strict", 1), newTracer(t), context.Background()
	n := 0
	for ; n < 8; n++ {
		pp, err := tryPadded(v.p, fmt.Sprint("S-", n), v.exe)
		if err != nil {
			if !errors.Is(err, arena.ErrFull) {
				t.Fatal(err)
			}
			break
		}
		_, err = insertGuards(ctx, tr, v.p, pp, Options{Mode: jit.ModeEnforce})
		must(t, err)
	}
	if n < 2 || n == 8 {
		t.Fatalf("%d prepatches are in", n)
	}
	for i := range n {
		_, err := Remove(ctx, tr, v.p, fmt.Sprint("S-", (i+1)%n), nil)
		must(t, err)
		v.rejects(t, i < n-1)
	}
	untouched(t, v, "after all")
}

// A pie that is killed, or stopped, after any request or write of any verb leaves a process
// in a sandbox alive, right and going on; what it leaves has a name, and a repair and a
// removal leave every byte as it was.
func TestPaddingSweep(t *testing.T) {
	for _, mode := range []string{"strict", "filter"} {
		for _, sig := range []syscall.Signal{unix.SIGKILL, unix.SIGSTOP} {
			for _, verb := range []string{"insert in padding", "mode", "remove", "repair"} {
				t.Run(fmt.Sprintf("%s/%s/%v", mode, verb, sig), func(t *testing.T) { sweepPadding(t, mode, verb, sig) })
			}
		}
	}
}

func sweepPadding(t *testing.T, mode, verb string, sig syscall.Signal) {
	v, tr := startBoxed(t, mode, 1), newTracer(t)
	total, _ := tryPaddedSpy(t, v, tr, verb, 0, sig)
	seen, cells, last := map[observe.LeftKind]int{}, 0, 0
	for step := 1; step <= total; step += paddedStride(total, sig) {
		_, died := tryPaddedSpy(t, v, tr, verb, step, sig)
		if !died {
			break
		}
		last = step
		cells++
		v.progress(t, frozenLimit+time.Second)
		for _, l := range leftovers(t, v.p) {
			seen[l.Kind]++
		}
		repairProves(t, v, tr, fmt.Sprintf("step %d of %d", step, total))
		if got := boxed(t, v.p); got != 2 {
			t.Fatalf("step %d: %d threads are in the sandbox", step, got)
		}
		if all, err := observe.Status(v.p); err == nil && len(all) == 0 {
			untouched(t, v, fmt.Sprintf("step %d", step))
		}
	}
	t.Logf("%d of %d steps, left: %v", cells, total, seen)
	if last == 0 || last < total/2 { // a run may take some steps fewer than the one that was counted
		t.Errorf("the sweep ended at step %d of %d", last, total)
	}
	toPadded(t, v, tr, "insert in padding")
	untouched(t, v, "in the end")
	v.forbidden(t)
}

// tryPaddedSpy has a spy die at a step of verb, or for step 0 counts its steps. On a busy
// machine a spy may be ended by its own watchdog before, or find nothing to repair because
// the removal was ended so: then once more.
func tryPaddedSpy(t *testing.T, v *victim, tr *tracee.Tracer, verb string, step int, sig syscall.Signal) (made int, died bool) {
	for range 4 {
		toPadded(t, v, tr, verb)
		if made, died = v.startSpy(t, verb, step, sig); died == (step > 0) {
			break
		}
		if died {
			repairProves(t, v, tr, "ended by its watchdog")
		}
	}
	return made, died
}

// paddedStride is stride with half as many samples, as there are two sandboxes.
func paddedStride(total int, sig syscall.Signal) int {
	if fullSweep {
		return 1
	}
	return 2 * stride(total, sig)
}

// toPadded brings the boxed victim to where verb begins.
func toPadded(t *testing.T, v *victim, tr *tracee.Tracer, verb string) {
	t.Helper()
	all, err := observe.Status(v.p)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) > 0 && all[0].State != observe.StateIn {
		t.Fatalf("%s is %v", all[0].ID, all[0].State)
	}
	in := len(all) > 0
	if want := !strings.HasPrefix(verb, "insert"); in && (!want || verb == "mode") {
		must(t, runVerb("remove", tr, v.p))
		untouched(t, v, "removed")
		in = false
	}
	if verb == "insert in padding" {
		return
	}
	if !in {
		must(t, runVerb("insert in padding", tr, v.p, v.exe))
	}
	if verb == "repair" { // of a removal that was killed when it had begun
		spy := v.beginSpyAt(t, "remove", "write", unix.SIGKILL)
		_ = spy.says(t)
		_ = spy.wait()
	}
}
