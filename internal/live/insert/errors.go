package insert

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
)

// What a caller decides on.
var (
	// ErrAlreadyIn: the process has the prepatch, with the same content.
	ErrAlreadyIn = errors.New("the prepatch is in already")
	// ErrOtherVersion: the process has a prepatch of the same id with other content.
	ErrOtherVersion = errors.New("another version of the prepatch is in")
	// ErrPartial: a pie that was killed left some of the prepatch's guards in.
	ErrPartial = errors.New("the prepatch is partly in, left so by a pie that was killed")
	// ErrNotIn: the process has no such prepatch.
	ErrNotIn = errors.New("the prepatch is not in")
	// ErrStale: the process changed after the plan was made; plan again.
	ErrStale = errors.New("the process changed after the plan was made")
	// ErrBusySite: a thread, or a signal handler that will return there, stayed
	// inside the bytes to be replaced.
	ErrBusySite = errors.New("a thread stays inside the bytes to be replaced")
	// ErrUnproven: what was read back is not what was written.
	ErrUnproven = errors.New("what was read back is not what was written")
)

// SiteCode is the stable reason why the bytes at a site are not replaced.
type SiteCode string

// Reasons of a SiteError.
const (
	SiteUprobe     SiteCode = "site_uprobe"      // a kernel uprobe's or a debugger's breakpoint on an instruction
	SiteForeign    SiteCode = "site_foreign"     // another patcher's jump
	SiteDiffers    SiteCode = "site_differs"     // not what the file has
	SiteOwn        SiteCode = "site_own"         // patched by a pie that chose another site
	SiteNotMapped  SiteCode = "site_unmapped"    // the image is not mapped there any more
	SiteNotPrivate SiteCode = "site_shared"      // the text is mapped shared: a write would reach other processes
	SiteOriginal   SiteCode = "original_differs" // the recorded original bytes are not the file's
)

// SiteError says that a site holds other bytes than it must. Nothing was
// written.
type SiteError struct {
	Code     SiteCode
	Pid      int
	Function string
	Site     address.Addr
	Want     []byte
	Found    []byte // empty when nothing could be read
}

func (e *SiteError) Error() string {
	return fmt.Sprintf("pid %d: %s at %v: %s: found % x, expected % x", e.Pid, e.Function, e.Site, e.Code.text(), e.Found, e.Want)
}

func (c SiteCode) text() string {
	switch c {
	case SiteUprobe:
		return "a breakpoint (int3) of a debugger or a kernel uprobe is on it"
	case SiteForeign:
		return "another patcher's jump is there"
	case SiteOwn:
		return "another pie has patched these bytes from another start"
	case SiteNotMapped:
		return "no executable file is mapped there"
	case SiteNotPrivate:
		return "the text is mapped shared, so that a write would reach other processes"
	case SiteOriginal:
		return "the original bytes recorded in the process are not the file's"
	}
	return "the bytes are not the file's"
}

// HeadroomError says that a limit leaves no room for the arena: writing would
// get the target killed, or the mapping refused.
type HeadroomError struct {
	Pid        int
	Limit      string // "memory limit of its cgroup", "RLIMIT_AS"
	Have, Need uint64 // bytes
}

func (e *HeadroomError) Error() string {
	return fmt.Sprintf("pid %d: %s leaves %d KiB, %d KiB are needed", e.Pid, e.Limit, e.Have>>10, e.Need>>10)
}

// MappingsError says that a process has nearly as many mappings as it may have: PIE's would
// take the last from it.
type MappingsError struct {
	Pid  int
	Left uint64
}

func (e *MappingsError) Error() string {
	return fmt.Sprintf("pid %d: vm.max_map_count leaves %d mappings, %d must be left", e.Pid, e.Left, SpareMappings)
}
