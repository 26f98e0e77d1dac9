// Package recording is the file that pie record writes and pie test --replay reads:
// real calls of the functions a prepatch guards, with what the guard read of memory.
//
// # Format
//
// The file begins with the 8 bytes of Magic, the last of which is the version. What
// follows is a gzip stream of frames:
//
//	u8 kind, uvarint length, body
//
//	'H'  Header, as JSON: the first frame
//	'P'  Process, as JSON: before its first call; counted from 0
//	'C'  a call, as below
//	'E'  Total, as JSON: the last frame. Without it the recorder was killed.
//
// A call is, in uvarints unless said otherwise: process, guard, number, time
// (CLOCK_MONOTONIC of the machine, ns), frame address, return address, end, verdict,
// faulting address; how many argument words, and these; how many answers of helpers,
// each its helper and value; how many pieces of memory, each its address, its length
// and its bytes.
//
// The stream is flushed while it is written, so that a recorder that is killed loses
// the last moments only. A Reader takes a file from an enemy: it holds one frame at
// a time, of at most MaxFrame bytes, and refuses what is not as above.
package recording

import (
	"errors"
	"fmt"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/recorder"
)

// Magic begins a recording; its last byte is the version of the format.
const Magic = "PIE\x9drec\x01"

// Limits of a recording.
const (
	MaxFrame  = 1 << 20 // bytes
	maxCall   = 64 << 10
	maxGuards = 1 << 10
	maxPieces = 16 << 10
)

// Errors of a Reader.
var (
	ErrNotRecording = errors.New("not a recording of pie record")
	ErrDamaged      = errors.New("the recording is damaged")
)

// VersionError is a recording of another version of the format.
type VersionError struct{ Version byte }

func (e *VersionError) Error() string {
	return fmt.Sprintf("a recording of version %d; this pie reads version %d", e.Version, Magic[len(Magic)-1])
}

// Header says what was recorded.
type Header struct {
	ID     string    `json:"id"`   // of the prepatch whose guards were recorded
	Hash   string    `json:"hash"` // of its content, hex
	Build  string    `json:"build"`
	Begin  time.Time `json:"begin"`
	Clock  uint64    `json:"clock"`  // CLOCK_MONOTONIC at Begin, ns
	Every  uint64    `json:"one_in"` // one in so many calls
	Memory bool      `json:"memory"` // with what the guards read
	Guards []Guard   `json:"guards"` // as calls number them
}

// Guard is a guard whose calls were recorded.
type Guard struct {
	Name string `json:"name"`
	Exe  string `json:"exe,omitempty"`
	Lib  string `json:"lib,omitempty"`
	Func string `json:"func"`
}

// Process is where calls were recorded.
type Process struct {
	Pid    int     `json:"pid"`
	Exe    string  `json:"exe"`
	Places []Place `json:"places"`
}

// Place is where a guard was in a process.
type Place struct {
	Guard   int               `json:"guard"`
	Image   string            `json:"image"`
	BuildID string            `json:"build_id,omitempty"` // hex
	Symbols map[string]uint64 `json:"symbols,omitempty"`  // addresses of what the guard names, by SymbolKey
}

// Call is one recorded call.
type Call struct {
	Process int
	recorder.Slot
}

// Time is when the call was made.
func (h *Header) Time(c *Call) time.Time {
	return h.Begin.Add(time.Duration(c.Now - h.Clock))
}

// Total is what a recording came to.
type Total struct {
	End      time.Time `json:"end"`
	Recorded uint64    `json:"recorded"`
	Calls    uint64    `json:"calls"` // that were made meanwhile, as the processes counted them
	Cut      uint64    `json:"cut"`   // recorded calls whose memory is not whole
	Lost     uint64    `json:"lost"`  // calls that were taken down and could not be read
	Why      string    `json:"why"`   // it ended
}
