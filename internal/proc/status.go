package proc

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Status is the part of /proc/PID/status (proc_pid_status(5)) that decides
// whether and how a process can be guarded. Pids are as the reader's pid
// namespace sees them.
type Status struct {
	Name    string // comm: chosen by the process, never its identity
	State   byte   // R S D T t Z X …
	Tgid    int
	PPid    int
	Tracer  int    // TracerPid: 0, or who traces it
	UID     uint32 // effective
	GID     uint32 // effective
	Threads int
	// SigBlk and SigCgt are bit masks; bit n−1 is signal n.
	SigBlk, SigCgt uint64
	// Seccomp is 0 off, 1 strict, 2 filter.
	Seccomp int
	// ShadowStack is set when x86_Thread_features names shstk.
	ShadowStack bool
}

// ParseStatus reads the text of /proc/PID/status. Unknown lines are skipped,
// as the kernel adds some in most releases; Tgid and State must be there.
func ParseStatus(text []byte) (Status, error) {
	var s Status
	for line := range bytes.Lines(text) {
		key, value, ok := bytes.Cut(bytes.TrimRight(line, "\n"), []byte{':'})
		if !ok {
			continue
		}
		if err := s.set(key, bytes.TrimSpace(value)); err != nil {
			return Status{}, fmt.Errorf("status line %.80q: %w", line, err)
		}
	}
	if s.Tgid == 0 || s.State == 0 {
		return Status{}, fmt.Errorf("status: no Tgid or no State line")
	}
	return s, nil
}

func (s *Status) set(key, value []byte) (err error) {
	switch string(key) {
	case "Name":
		s.Name = string(value)
	case "State":
		if len(value) > 0 {
			s.State = value[0]
		}
	case "Tgid":
		s.Tgid, err = strconv.Atoi(string(value))
	case "PPid":
		s.PPid, err = strconv.Atoi(string(value))
	case "TracerPid":
		s.Tracer, err = strconv.Atoi(string(value))
	case "Threads":
		s.Threads, err = strconv.Atoi(string(value))
	case "Uid":
		s.UID, err = effectiveID(value)
	case "Gid":
		s.GID, err = effectiveID(value)
	case "SigBlk":
		s.SigBlk, err = strconv.ParseUint(string(value), 16, 64)
	case "SigCgt":
		s.SigCgt, err = strconv.ParseUint(string(value), 16, 64)
	case "Seccomp":
		s.Seccomp, err = strconv.Atoi(string(value))
	case "x86_Thread_features":
		s.ShadowStack = strings.Contains(" "+string(value)+" ", " shstk ")
	}
	return err
}

// effectiveID takes the second of "real effective saved filesystem".
func effectiveID(value []byte) (uint32, error) {
	fields := bytes.Fields(value)
	if len(fields) < 2 {
		return 0, fmt.Errorf("want four ids")
	}
	id, err := strconv.ParseUint(string(fields[1]), 10, 32)
	return uint32(id), err
}

// ParseStat returns the parent's pid and the start time, in clock ticks since
// boot, of the text of /proc/PID/stat (fields 4 and 22 of proc_pid_stat(5)).
// The second field is the name in parentheses and may hold anything, so
// counting starts after the last parenthesis.
func ParseStat(text []byte) (ppid int, start uint64, err error) {
	line, err := statFields(text)
	if err != nil {
		return 0, 0, err
	}
	if ppid, err = strconv.Atoi(string(line.fields[1])); err != nil {
		return 0, 0, fmt.Errorf("stat: parent: %w", err)
	}
	if start, err = strconv.ParseUint(string(line.fields[19]), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("stat: start time: %w", err)
	}
	return ppid, start, nil
}

// flagKernelThread is PF_KTHREAD of the kernel's flags of a process.
const flagKernelThread = 0x0020_0000

// parseFlags returns the kernel's flags (field 9 of proc_pid_stat(5)).
func parseFlags(text []byte) (uint64, error) {
	line, err := statFields(text)
	if err != nil {
		return 0, err
	}
	flags, err := strconv.ParseUint(string(line.fields[6]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stat: flags: %w", err)
	}
	return flags, nil
}

// parseHeapStart returns start_brk (field 47 of proc_pid_stat(5)), which is 0 to those who
// may not trace the process.
func parseHeapStart(text []byte) (address.Addr, error) {
	line, err := statFields(text)
	if err != nil {
		return 0, err
	}
	if line.n < 45 {
		return 0, fmt.Errorf("stat: no start of the heap")
	}
	at, err := strconv.ParseUint(string(line.fields[44]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stat: the start of the heap: %w", err)
	}
	return address.Addr(at), nil
}

// statLine is the fields behind the name, from the third on, and how many there are.
type statLine struct {
	fields [45][]byte
	n      int
}

// statFields takes a line apart. It allocates nothing, for every process of a machine may
// be asked for.
func statFields(text []byte) (s statLine, err error) {
	i := bytes.LastIndexByte(text, ')')
	if i < 0 {
		return s, fmt.Errorf("stat %.80q: no name in parentheses", string(text))
	}
	const between = " \n"
	for rest := bytes.TrimLeft(text[i+1:], between); len(rest) > 0 && s.n < len(s.fields); s.n++ {
		end := bytes.IndexAny(rest, between)
		if end < 0 {
			end = len(rest)
		}
		s.fields[s.n], rest = rest[:end], bytes.TrimLeft(rest[end:], between)
	}
	if s.n < 20 {
		return s, fmt.Errorf("stat %.80q: too few fields", string(text))
	}
	return s, nil
}
