package proc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
)

// maxMappings bounds one maps file: sixteen times vm.max_map_count's default.
const maxMappings = 1 << 20

// Perms are the permission bits of a mapping.
type Perms uint8

// Permissions; a mapping without Shared is private (copy on write).
const (
	Read Perms = 1 << iota
	Write
	Exec
	Shared
)

func (p Perms) String() string {
	s := []byte("---p")
	for i, c := range []struct {
		bit  Perms
		char byte
	}{{Read, 'r'}, {Write, 'w'}, {Exec, 'x'}, {Shared, 's'}} {
		if p&c.bit != 0 {
			s[i] = c.char
		}
	}
	return string(s)
}

// FileID is the identity of an inode as maps prints it. On file systems with
// several subvolumes (btrfs, some overlayfs) Major and Minor differ from what
// stat(2) reports for the same file.
type FileID struct {
	Major, Minor uint32
	Inode        uint64
}

// Mapping is one line of /proc/PID/maps (proc_pid_maps(5)).
type Mapping struct {
	Start, End address.Addr // [Start, End)
	Perms      Perms
	Offset     address.Off // of Start in the file
	File       FileID      // zero for anonymous memory
	// Path is for people: what the process's own namespace calls the file, or a
	// name in brackets such as [stack]. It is never opened as it stands.
	Path string
	// Deleted is set when the kernel appended " (deleted)". A path may also end
	// with these very words, so it is a hint.
	Deleted bool
}

// Size returns the mapping's length in bytes.
func (m Mapping) Size() uint64 { return uint64(m.End) - uint64(m.Start) }

// Contains tells whether a lies in the mapping.
func (m Mapping) Contains(a address.Addr) bool { return m.Start <= a && a < m.End }

// HasFile tells whether the mapping is of a file.
func (m Mapping) HasFile() bool { return m.File.Inode != 0 && strings.HasPrefix(m.Path, "/") }

// link is the link to the mapping's file in a directory of a process.
func (m Mapping) link() string { return fmt.Sprintf("map_files/%x-%x", uint64(m.Start), uint64(m.End)) }

func (m Mapping) String() string {
	return fmt.Sprintf("%x-%x %s %s", uint64(m.Start), uint64(m.End), m.Perms, m.Path)
}

var errMapsLine = errors.New("not a line of /proc/PID/maps")

// errOverlap: the text is not one snapshot, and a mapping that grew, or became one with its
// neighbour, between two reads of it comes out twice.
var errOverlap = errors.New("overlaps the line before")

// ParseMaps reads the text of /proc/PID/maps. Mappings are in ascending order
// and do not overlap; anything else is an error.
func ParseMaps(text []byte) ([]Mapping, error) {
	const shortest = len("0-1 r--p 0 0:0 0\n")
	maps := slices.Grow([]Mapping(nil), min(bytes.Count(text, []byte{'\n'}), len(text)/shortest))
	var last address.Addr
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte{'\n'})
		text = rest
		m, err := parseMapping(string(line))
		if err != nil {
			return nil, fmt.Errorf("maps line %d %.120q: %w", len(maps)+1, line, err)
		}
		if m.Start < last {
			return nil, fmt.Errorf("maps line %d %.120q: %w", len(maps)+1, line, errOverlap)
		}
		if len(maps) == maxMappings {
			return nil, fmt.Errorf("maps: more than %d lines", maxMappings)
		}
		last = m.End
		maps = append(maps, m)
	}
	return maps, nil
}

// parseMapping reads "START-END PERMS OFFSET MAJOR:MINOR INODE   PATH". The
// path may hold anything; the kernel writes a newline in it as \012.
func parseMapping(line string) (Mapping, error) {
	var field [5]string
	rest := line
	for i := range field {
		var ok bool
		field[i], rest, ok = strings.Cut(rest, " ")
		if !ok && i < len(field)-1 {
			return Mapping{}, errMapsLine
		}
	}
	start, end, ok1 := strings.Cut(field[0], "-")
	major, minor, ok2 := strings.Cut(field[3], ":")
	if !ok1 || !ok2 {
		return Mapping{}, errMapsLine
	}
	var n numbers
	m := Mapping{
		Start:  address.Addr(n.parse(start, 16, 64)),
		End:    address.Addr(n.parse(end, 16, 64)),
		Offset: address.Off(n.parse(field[2], 16, 64)),
		File: FileID{
			Major: uint32(n.parse(major, 16, 32)),
			Minor: uint32(n.parse(minor, 16, 32)),
			Inode: n.parse(field[4], 10, 64),
		},
	}
	perms, ok := parsePerms(field[1])
	if n.bad || !ok || m.Start >= m.End {
		return Mapping{}, errMapsLine
	}
	m.Perms = perms
	m.Path, m.Deleted = strings.CutSuffix(strings.TrimLeft(rest, " "), " (deleted)")
	return m, nil
}

func parsePerms(s string) (Perms, bool) {
	if len(s) != 4 {
		return 0, false
	}
	var p Perms
	for i, set := range "rwxs" {
		unset := byte('-')
		if i == 3 {
			unset = 'p'
		}
		switch s[i] {
		case byte(set):
			p |= 1 << i
		case unset:
		default:
			return 0, false
		}
	}
	return p, true
}

// numbers parses fields and remembers whether one was not a number.
type numbers struct{ bad bool }

func (n *numbers) parse(s string, base, bits int) uint64 {
	v, err := strconv.ParseUint(s, base, bits)
	if err != nil {
		n.bad = true
	}
	return v
}
