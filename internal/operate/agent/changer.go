package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// The agent changes no process itself. Whoever stops a process has a watchdog that
// kills it when the stop lasts for half a second, as it may where a hundred others want
// the processor. So a process of the agent's own does it (changes.go), and when that one
// is killed the agent lives on, starts another and tries again.

// changerName is the name of that process, which is this executable started anew.
const changerName = "pie-change"

// changer is the agent's side. One goroutine at a time uses it.
type changer struct {
	process *exec.Cmd
	conn    *net.UnixConn
	in      *json.Encoder
	out     *json.Decoder
	knows   map[string]bool // the prepatches that it was sent, by their contents
	log     *slog.Logger
	wait    time.Duration // for an order, beside perProcess
}

// order is one change, for the process that makes it.
type order struct {
	Load     *parcel  `json:"load,omitempty"` // a prepatch that is new to it
	Verb     string   `json:"verb"`
	Contents string   `json:"contents,omitempty"` // which prepatch is inserted
	ID       string   `json:"id"`
	Pids     []int    `json:"pids"`
	Mode     pie.Mode `json:"mode,omitempty"`
	Partial  bool     `json:"partial,omitempty"`
	Build    string   `json:"build,omitempty"`
}

// parcel is a prepatch as source: who inserts it compiles and verifies it.
type parcel struct {
	Sources      map[string][]byte `json:"sources"`
	Fingerprints map[string][]byte `json:"fingerprints"`
}

// Verbs of an order.
const (
	verbInsert = "insert"
	verbRemove = "remove"
	verbMode   = "mode"
	verbReads  = "reads" // guards read memory as an insertion made now would choose
)

// outcome is what came of an order.
type outcome struct {
	Report  *pie.Report  `json:"report,omitempty"`
	Refused *pie.Refusal `json:"refused,omitempty"`
	Error   string       `json:"error,omitempty"`
}

// errEnded says that the process ended before it answered.
var errEnded = errors.New("the process that makes the agent's changes ended")

// How long an order may take: for each process, and at all.
const (
	orderTime    = 10 * time.Second
	perProcess   = 2 * time.Second
	farewellTime = time.Second // for what is being done when the agent ends
)

// insert inserts a prepatch into one process.
func (c *changer) insert(ctx context.Context, p *prepatch, pid int, o pie.Options) (*pie.Report, error) {
	return c.change(ctx, order{Verb: verbInsert, Contents: p.contents(), ID: p.ID, Pids: []int{pid}, Mode: o.Mode, Partial: o.Partial, Build: o.Build}, p)
}

// remove takes a prepatch out of processes.
func (c *changer) remove(ctx context.Context, id string, pids []int) (*pie.Report, error) {
	return c.change(ctx, order{Verb: verbRemove, ID: id, Pids: pids}, nil)
}

// setMode sets the mode of a prepatch in one process.
func (c *changer) setMode(ctx context.Context, id string, m pie.Mode, pid int) (*pie.Report, error) {
	return c.change(ctx, order{Verb: verbMode, ID: id, Pids: []int{pid}, Mode: m}, nil)
}

// settleReads has the guards of a prepatch read memory as an insertion made now would
// choose.
func (c *changer) settleReads(ctx context.Context, p *prepatch, pids []int, o pie.Options) (*pie.Report, error) {
	return c.change(ctx, order{Verb: verbReads, Contents: p.contents(), ID: p.ID, Pids: pids, Partial: o.Partial, Build: o.Build}, p)
}

// change has an order carried out. One whose process ends on the way is given to
// another one: what was begun is taken up again, as after any death of a pie. When that
// one ends, too, or none can be started, the refusal's code is pie.CodeBusy.
func (c *changer) change(ctx context.Context, o order, p *prepatch) (*pie.Report, error) {
	var err error
	for range 2 {
		var done outcome
		if done, err = c.try(ctx, o, p); err == nil {
			return done.result()
		}
		c.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.log.Warn("a change is tried again by another process", "change", o.Verb, "prepatch", o.ID, "pids", o.Pids, "reason", err)
	}
	return nil, &pie.Refusal{Code: pie.CodeBusy, Msg: fmt.Sprintf("%s: %v", o.ID, err), Err: err,
		Instead: "the agent tries again; the machine may be too busy to stop a process for a moment"}
}

// try starts the process if it has to, and gives it the order.
func (c *changer) try(ctx context.Context, o order, p *prepatch) (done outcome, err error) {
	if err := c.ready(); err != nil {
		return done, err
	}
	if p != nil && !c.knows[o.Contents] {
		o.Load = &parcel{p.files, p.fingerprints}
	}
	if done, err = c.ask(ctx, o); err == nil {
		c.knows[o.Contents] = true
	}
	return done, err
}

// result is what the functions of package pie return.
func (d outcome) result() (*pie.Report, error) {
	switch {
	case d.Refused != nil:
		return nil, d.Refused
	case d.Error != "":
		return nil, errors.New(d.Error)
	case d.Report == nil:
		return nil, errEnded
	}
	return d.Report, nil
}

// ready starts the process unless it runs.
func (c *changer) ready() error {
	if c.conn != nil {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket of the process that makes changes: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "orders"), os.NewFile(uintptr(pair[1]), "orders")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return fmt.Errorf("socket of the process that makes changes: %w", err)
	}
	process := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{changerName}, Dir: "/", ExtraFiles: []*os.File{theirs},
		Env:         []string{"GOTRACEBACK=none"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := process.Start(); err != nil {
		conn.Close()
		return fmt.Errorf("starting the process that makes changes: %w", err)
	}
	c.process, c.conn = process, conn.(*net.UnixConn)
	c.in, c.out, c.knows = json.NewEncoder(conn), json.NewDecoder(conn), map[string]bool{}
	return nil
}

// ask sends an order and waits for what comes of it. When ctx ends, what is being done
// gets a moment to come to its end.
func (c *changer) ask(ctx context.Context, o order) (done outcome, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(c.wait + time.Duration(len(o.Pids))*perProcess)); err != nil {
		return done, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now().Add(farewellTime)) })
	defer stop()
	if err := c.in.Encode(o); err != nil {
		return done, fmt.Errorf("%w: %w", errEnded, err)
	}
	if err := c.out.Decode(&done); err != nil {
		return done, fmt.Errorf("%w: %w", errEnded, err)
	}
	return done, nil
}

// close ends the process, which lets go of what it holds. Guarded processes stay
// guarded.
func (c *changer) close() {
	if c.conn == nil {
		return
	}
	c.conn.Close()
	_ = c.process.Process.Kill()
	_ = c.process.Wait()
	c.conn = nil
}
