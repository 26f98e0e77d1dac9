package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

func init() {
	if len(os.Args) == 1 && os.Args[0] == changerName {
		os.Exit(makeChanges())
	}
}

// ordersFD is the socket of the process that makes changes.
const ordersFD = 3

// changes is the process that makes the agent's changes.
type changes struct {
	engine *pie.Engine              // nil before the first order
	loaded map[string]*pie.Prepatch // by their contents
}

// makeChanges is its main function. It ends with its socket.
func makeChanges() int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGTSTP, unix.SIGPIPE)
	unix.CloseOnExec(ordersFD)
	c := &changes{loaded: map[string]*pie.Prepatch{}}
	defer c.close()
	socket := os.NewFile(ordersFD, "orders")
	in, out := json.NewDecoder(socket), json.NewEncoder(socket)
	for {
		var o order
		if in.Decode(&o) != nil || out.Encode(c.outcomeOf(o)) != nil {
			return 0
		}
	}
}

func (c *changes) outcomeOf(o order) (done outcome) {
	report, err := c.make(o)
	done.Report = report
	if err != nil && !errors.As(err, &done.Refused) {
		done.Error = err.Error()
	}
	return done
}

func (c *changes) close() {
	if c.engine != nil {
		c.engine.Close()
	}
}

// make carries an order out.
func (c *changes) make(o order) (report *pie.Report, err error) {
	if c.engine == nil {
		if c.engine, err = pie.NewEngine(); err != nil {
			return nil, err
		}
	}
	ctx, sel := context.Background(), pie.Pids(o.Pids...)
	switch o.Verb {
	case verbInsert:
		p, err := c.prepatch(o)
		if err != nil {
			return nil, err
		}
		options := pie.Options{Mode: o.Mode, Partial: o.Partial, Build: o.Build}
		report, err := c.engine.Insert(ctx, p, sel, options)
		if pie.ReasonOf(err) != pie.CodePartly {
			return report, err
		}
		if _, err := pie.Repair(ctx, sel); err != nil { // one that was killed left it so
			return nil, err
		}
		return c.engine.Insert(ctx, p, sel, options)
	case verbRemove:
		return c.engine.Remove(ctx, o.ID, sel)
	case verbMode:
		return c.engine.SetMode(ctx, o.ID, o.Mode, sel)
	case verbReads:
		p, err := c.prepatch(o)
		if err != nil {
			return nil, err
		}
		return c.engine.SettleReads(ctx, p, sel, pie.Options{Partial: o.Partial, Build: o.Build})
	}
	return nil, fmt.Errorf("%q is no change", o.Verb)
}

// prepatch returns the prepatch of an order, which is compiled and verified once.
func (c *changes) prepatch(o order) (*pie.Prepatch, error) {
	if p := c.loaded[o.Contents]; p != nil {
		return p, nil
	}
	if o.Load == nil {
		return nil, fmt.Errorf("the prepatch %s was not sent", o.ID)
	}
	p, err := pie.Load(o.Load.Sources)
	if err != nil {
		return nil, err
	}
	for name, data := range o.Load.Fingerprints {
		if err := p.UseFingerprint(name, data); err != nil {
			return nil, err
		}
	}
	c.loaded[o.Contents] = p
	return p, nil
}
