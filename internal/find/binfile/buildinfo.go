package binfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"runtime/debug"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Layout of .go.buildinfo (debug/buildinfo): a magic string, pointer size,
// flags, and since Go 1.18, when bit 1 of the flags is set, two strings with
// their lengths as varints at offset 32.
const (
	buildInfoMagic  = "\xff Go buildinf:"
	buildInfoHeader = 32
	buildInfoInline = 2
	maxBuildInfo    = 16 << 20
)

// GoBuild is what a Go program says about its making.
type GoBuild struct {
	Version string // of Go: "go1.26.1"
	Module  *debug.BuildInfo
}

// GoBuild returns the build information of a Go 1.18 or later program, or
// ErrNoTable.
func (f *File) GoBuild() (*GoBuild, error) {
	at, ok := f.goBuildAt()
	if !ok {
		return nil, fmt.Errorf(".go.buildinfo: %w", ErrNoTable)
	}
	b, err := f.segmentBytes(".go.buildinfo", at, maxBuildInfo)
	if err != nil {
		return nil, err
	}
	if len(b) < buildInfoHeader || b[15]&buildInfoInline == 0 {
		return nil, fmt.Errorf(".go.buildinfo of Go before 1.18: %w", ErrNoTable)
	}
	version, rest, ok1 := cutString(b[buildInfoHeader:])
	module, _, ok2 := cutString(rest)
	if !ok1 || !ok2 {
		return nil, malformed(".go.buildinfo", uint64(at), "its strings end early")
	}
	out := &GoBuild{Version: string(version)}
	// Sixteen bytes on each side mark the module information for scanners.
	if len(module) >= 33 && module[len(module)-17] == '\n' {
		out.Module, err = debug.ParseBuildInfo(string(module[16 : len(module)-16]))
		if err != nil {
			return nil, malformed(".go.buildinfo", uint64(at), "%v", err)
		}
	}
	return out, nil
}

func cutString(b []byte) (s, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size : uint64(size)+n], b[uint64(size)+n:], true
}

// goBuildAt returns the section's address or, without section headers, where
// the magic string stands in writable data, on a 16-byte boundary.
func (f *File) goBuildAt() (address.Vaddr, bool) {
	if s := f.section(".go.buildinfo"); s != nil {
		b, err := f.segmentBytes(s.name, s.addr, uint64(len(buildInfoMagic)))
		return s.addr, err == nil && string(b) == buildInfoMagic
	}
	if len(f.sections) > 0 {
		return 0, false
	}
	const within = 1 << 20
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD || s.Flags&elf.PF_W == 0 {
			continue
		}
		b, err := f.segmentBytes("data segment", s.Vaddr, min(s.Filesz, within))
		if err != nil {
			continue
		}
		for i := 0; i < len(b); {
			j := bytes.Index(b[i:], []byte(buildInfoMagic))
			if j < 0 {
				break
			}
			if i += j; i%16 == 0 {
				return s.Vaddr + address.Vaddr(i), true
			}
			i++
		}
	}
	return 0, false
}
