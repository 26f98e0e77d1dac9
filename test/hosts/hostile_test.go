package hosts

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// A process that is already taken over writes what it likes over PIE's memory in it.
// Whatever stands there, every command ends in time, without a panic, and without
// touching anybody else: a bystander runs the same program throughout.

// arena is PIE's memory in a host: its private state and what is shared.
type arena struct{ state, shared [2]int64 }

// findArena finds the arena in maps by its shape: code, state, shared.
func findArena(t testing.TB, pid int) (a arena, ok bool) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return a, false
	}
	var lines [][]string
	for _, line := range strings.Split(string(text), "\n") {
		if f := strings.Fields(line); len(f) >= 5 {
			lines = append(lines, f)
		}
	}
	for i := 1; i+1 < len(lines); i++ {
		before, this, after := lines[i-1], lines[i], lines[i+1]
		if before[1] == "r-xp" && len(before) == 5 && this[1] == "rw-p" && len(this) == 5 && after[1] == "rw-s" {
			return arena{interval(this[0]), interval(after[0])}, true
		}
	}
	return a, false
}

func interval(s string) (r [2]int64) {
	from, to, _ := strings.Cut(s, "-")
	r[0], _ = strconv.ParseInt(from, 16, 64)
	r[1], _ = strconv.ParseInt(to, 16, 64)
	return r
}

// scribbler writes into a host's arena as the host could.
type scribbler struct {
	mem   *os.File
	a     arena
	clean []byte // the state as PIE had written it
	rnd   *rand.Rand
}

func newScribbler(t testing.TB, h *host, rnd *rand.Rand) *scribbler {
	t.Helper()
	a, ok := findArena(t, h.pid())
	if !ok {
		t.Fatalf("no arena in %v", h.cmd.Args)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", h.pid()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	s := &scribbler{mem: mem, a: a, clean: make([]byte, a.state[1]-a.state[0]), rnd: rnd}
	if _, err := mem.ReadAt(s.clean, a.state[0]); err != nil {
		t.Fatal(err)
	}
	return s
}

// scribble changes bytes, words or a page of the state, and of what is shared.
// The checksum of the header is made good, or it would hide everything behind it.
func (s *scribbler) scribble() {
	state := append([]byte(nil), s.clean...)
	header := s.rnd.IntN(6) == 0
	for range 1 + s.rnd.IntN(12) {
		at := 192 + s.rnd.IntN(len(state)-192)
		if header {
			at = s.rnd.IntN(192)
		}
		s.spoil(state[at:])
	}
	if header && s.rnd.IntN(2) == 0 {
		resum(state)
	}
	_, _ = s.mem.WriteAt(state, s.a.state[0])
	shared := make([]byte, 64)
	for i := range shared {
		shared[i] = byte(s.rnd.Uint32())
	}
	for range s.rnd.IntN(40) {
		_, _ = s.mem.WriteAt(shared, s.a.shared[0]+s.rnd.Int64N(s.a.shared[1]-s.a.shared[0]-64)&^7)
	}
}

// spoil changes the beginning of b.
func (s *scribbler) spoil(b []byte) {
	switch n := len(b); s.rnd.IntN(5) {
	case 0:
		b[0] ^= 1 << s.rnd.IntN(8)
	case 1:
		b[0] = byte(s.rnd.Uint32())
	case 2: // a number at the edge of something
		edges := []uint64{0, 1, 0xff, 0x7fff, 0xffff, 1 << 31, 1<<32 - 1, 1 << 47, 1<<63 - 1, 1 << 63, 1<<64 - 1, uint64(s.a.state[0]), uint64(s.a.shared[0])}
		for i, v := 0, edges[s.rnd.IntN(len(edges))]; i < min(8, n); i++ {
			b[i] = byte(v >> (8 * i))
		}
	case 3: // another record
		copy(b[:min(n, 64)], s.clean[s.rnd.IntN(len(s.clean)-64):])
	case 4:
		for i := range min(n, 1+s.rnd.IntN(256)) {
			b[i] = byte(s.rnd.Uint32())
		}
	}
}

func (s *scribbler) restore() { _, _ = s.mem.WriteAt(s.clean, s.a.state[0]) }

// commandTime bounds a command on a hostile process: what it waits for is bounded
// by 3 s of patience.
const commandTime = 8 * time.Second

// A long run is made of runs of some hundred rounds, each with a seed of its own:
//
//	go test -run HostileArena ./test/hosts -hostile.rounds 700 -hostile.seed 7
var (
	hostileRounds = flag.Int("hostile.rounds", 150, "commands that TestHostileArena gives")
	hostileSeed   = flag.Uint64("hostile.seed", 1, "what TestHostileArena scribbles")
)

func TestHostileArena(t *testing.T) {
	rounds, seed := *hostileRounds, *hostileSeed
	if os.Getenv("PIE_TEST_LONG") != "" {
		rounds, seed = 20000, uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	bystander := start(t, nil, path, "", "1")
	bystander.insert(p)
	ended := map[string]int{}
	for done := 0; done < rounds; {
		h := start(t, nil, path, "", "1")
		h.insert(p)
		s := newScribbler(t, h, rnd)
		for ; done < rounds && alive(h); done++ {
			s.scribble()
			name, err := command(t, rnd, p, h.pid())
			ended[name+" "+outcome(err)]++
			if rnd.IntN(8) == 0 {
				break // what it left behind is another process's beginning
			}
			s.restore()
		}
		_ = h.cmd.Process.Kill()
	}
	t.Log(ended)
	bystander.guarded()
	bystander.remove(p.ID)
	bystander.asItsFiles()
}

func alive(h *host) bool { return unix.Kill(h.pid(), 0) == nil && h.mem != nil && readable(h) }

func readable(h *host) bool {
	_, err := h.mem.ReadAt(make([]byte, 8), h.stats)
	return err == nil
}

// command runs one command on a process, and wants it to end in time.
func command(t *testing.T, rnd *rand.Rand, p *pie.Prepatch, pid int) (name string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	sel, begin := pie.Pids(pid), time.Now()
	switch rnd.IntN(12) {
	case 0:
		name = "insert"
		_, err = pie.Insert(ctx, p, sel, pie.Options{Mode: pie.ModeEnforce})
	case 1:
		name = "remove"
		_, err = pie.Remove(ctx, p.ID, sel)
	case 2:
		name = "remove every one"
		_, err = pie.Remove(ctx, pie.AnyID, sel)
	case 3:
		name = "repair"
		_, err = pie.Repair(ctx, sel)
	case 4:
		name = "mode"
		_, err = pie.SetMode(ctx, pie.AnyID, pie.ModeAudit, sel)
	case 5:
		name = "keep"
		_, err = pie.Keep(ctx, p.ID, sel)
	case 6:
		name = "doctor"
		_, err = pie.Doctor(ctx, pid)
	case 7, 8, 9:
		name = "events"
		f := pie.NewFollower(sel)
		for range 2 {
			if _, err = f.Next(ctx); err != nil {
				break
			}
		}
	default:
		name = "status"
		_, err = pie.Status(ctx, sel)
	}
	if took := time.Since(begin); took > commandTime {
		t.Errorf("%s took %v: %v", name, took, err)
	}
	return name, err
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, context.DeadlineExceeded):
		return "out of time"
	case pie.ReasonOf(err) != "":
		return string(pie.ReasonOf(err))
	}
	return "error"
}

// resum makes the header's checksum good: the last word of its 192 bytes.
func resum(state []byte) { binary.LittleEndian.PutUint32(state[188:], crc32.ChecksumIEEE(state[:188])) }
