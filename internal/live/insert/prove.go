package insert

import (
	"bytes"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/live/observe"
)

// prove reads back what was written, and reports it.
func (in *insertion) prove() error {
	for _, a := range in.arenas {
		blocks, err := in.blocks(a)
		if err != nil {
			return err
		}
		for _, b := range blocks {
			has := make([]byte, len(b.bytes))
			if _, err := in.p.ReadAt(has, b.at); err != nil {
				return fmt.Errorf("pid %d: code at %v: %w: %w", in.p.Pid(), b.at, ErrUnproven, err)
			}
			if !bytes.Equal(has, b.bytes) {
				return fmt.Errorf("pid %d: code at %v: %w", in.p.Pid(), b.at, ErrUnproven)
			}
		}
	}
	for _, g := range in.pp.guards {
		s, found := observe.Site(in.p, g.Place.Arena, g.Place.Index)
		if s != observe.SiteIn {
			return fmt.Errorf("pid %d: %s at %v holds % x: %w", in.p.Pid(), g.Function, g.Site, found, ErrUnproven)
		}
		in.dirty(block{at: g.Site, bytes: found})
		in.report.Sites = append(in.report.Sites, SiteReport{g.Function, g.Image, g.Site, g.Original, found})
	}
	return nil
}
