package insert

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// checkSites compares every site with the file's bytes, or, where guards of
// ours are in, with a jump to the first.
func (in *insertion) checkSites(maps []proc.Mapping) error {
	for _, g := range in.pp.guards {
		e := SiteError{Pid: in.p.Pid(), Function: g.Function, Site: g.Site, Want: g.Original}
		if code := mappingAt(maps, g.Site, len(g.Original), g.Image.Inode); code != "" {
			e.Code = code
			return &e
		}
		found := make([]byte, len(g.Original))
		if _, err := in.p.ReadAt(found, g.Site); errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("pid %d: reading %s at %v: %w", in.p.Pid(), g.Function, g.Site, err)
		} else if err != nil {
			e.Code = SiteNotMapped
			return &e
		}
		if bytes.Equal(found, g.Original) || in.shares(g) {
			continue
		}
		e.Found, e.Code = found, in.differs(g, found)
		return &e
	}
	return nil
}

// mappingAt says why the n bytes at site cannot be patched, or "".
func mappingAt(maps []proc.Mapping, site address.Addr, n int, inode uint64) SiteCode {
	for _, m := range maps {
		if !m.Contains(site) {
			continue
		}
		switch {
		case m.Perms&proc.Exec == 0 || !m.HasFile() || site.Add(int64(n)) > m.End:
			return SiteNotMapped
		case inode != 0 && m.File.Inode != inode:
			return SiteNotMapped
		case m.Perms&proc.Shared != 0:
			return SiteNotPrivate
		}
		return ""
	}
	return SiteNotMapped
}

// shares reports whether a guard that is in already has g's site.
func (in *insertion) shares(g plan.Guard) bool { return len(in.others(g)) > 0 }

// others are the guards that a call of g's site goes through now, in their order.
// One that leads elsewhere ends the chain: the commit then finds another link than
// it expects, and changes nothing.
func (in *insertion) others(g plan.Guard) []int {
	found := make([]byte, len(g.Original))
	if _, err := in.p.ReadAt(found, g.Site); err != nil {
		return nil
	}
	chain, _ := observe.Chain(in.p, g.Place.Arena, g.Site, found)
	return chain
}

// guardOf returns which guard of this insertion has record j of a, or −1.
func (in *insertion) guardOf(a *arena.Arena, j int) int {
	for i, g := range in.pp.guards {
		if g.Place.Arena == a && g.Place.Index == j {
			return i
		}
	}
	return -1
}

// differs names what was found at a site instead of the file's bytes.
func (in *insertion) differs(g plan.Guard, found []byte) SiteCode {
	for _, a := range in.arenas {
		for j, o := range a.Guards {
			if o.State == arena.Free || in.guardOf(a, j) >= 0 {
				continue
			}
			if o.Site < g.Site.Add(int64(len(found))) && g.Site < o.Site.Add(int64(len(o.Original))) {
				return SiteOwn
			}
		}
	}
	return nameOf(found, g.Original)
}

// nameOf tells a breakpoint (int3) and a jump apart from other differences.
func nameOf(found, want []byte) SiteCode {
	const int3, call, jmp, jmpShort, group5 = 0xcc, 0xe8, 0xe9, 0xeb, 0xff
	for i := range found {
		if i >= len(want) || found[i] == want[i] {
			continue
		}
		switch found[i] {
		case int3:
			return SiteUprobe
		case jmp, jmpShort, call:
			return SiteForeign
		case group5:
			if i+1 < len(found) && found[i+1] == 0x25 {
				return SiteForeign
			}
		}
		return SiteDiffers
	}
	return SiteDiffers
}
