package fingerprint

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/behaviour"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Bounds of the work on one file. What exceeds them is an error, or is left out
// where that can only make a search abstain.
const (
	maxFunctions    = 1 << 20
	maxFunctionSize = 1 << 20  // bytes; larger ones are never candidates
	maxInstructions = 64 << 20 // see budget
	maxEdges        = 16 << 20
)

// ErrNoFunctions says that a file tells of no function where it is.
var ErrNoFunctions = errors.New("no function boundaries: neither symbols nor an unwind table")

// Module is a program or library as a set of functions that call each other.
// What a function contains is read when it is first asked for. A Module is not
// safe for concurrent use.
type Module struct {
	BuildID string
	SOName  string

	image       *image
	funcs       []function // ascending, not overlapping
	bodies      []*body    // by function; nil until read
	file        *binfile.File
	edges       *graph // see graph
	plt         map[address.Vaddr]string
	whole       *whole
	common      *census           // see background
	said        *Sketch           // see sketch
	left        int               // instructions that may still be decoded
	inst        amd64.Inst        // see code
	scratch     []Feature         // room for those of one function
	splits      *bool             // see leavesWhole
	overall     *Whole            // see Whole
	lastPairing *pairing          // see paired
	kept        *pointers         // see keeps
	executes    *behaviour.Runner // see runner
}

// function is where a function is.
type function struct {
	at   address.Vaddr
	size uint64
}

// Analyze reads an ELF file's function boundaries. The file stays in use: its code and
// data are read when they are looked at. Errors: ErrNoFunctions and those of binfile.
func Analyze(f *binfile.File) (*Module, error) {
	m := &Module{BuildID: f.BuildIDString(), SOName: f.SOName(), plt: map[address.Vaddr]string{}, file: f}
	all, err := f.Bounds()
	if err != nil {
		return nil, err
	}
	if m.image, err = readImage(f); err != nil {
		return nil, err
	}
	m.left = m.image.budget()
	if err := m.bound(all); err != nil {
		return nil, err
	}
	m.bodies = make([]*body, len(m.funcs))
	return m, nil
}

// Err is the first error of reading the file's code and data since Analyze, or nil: what
// was told of the module since is not to be used.
func (m *Module) Err() error { return m.image.failed() }

// budget is how many instructions may be decoded: as many as would be were every byte
// one, twice. A program in which functions are made to look like parts of one another,
// which are read with each, ends there; others do with a sixth.
func (im *image) budget() int {
	const least = 1 << 20
	bytes := 0
	for i := range im.segments {
		if im.segments[i].flags&elf.PF_X != 0 {
			bytes += int(im.segments[i].size)
		}
	}
	return min(least+2*bytes, maxInstructions)
}

// namesOf returns the names that the file has for function i. They are shown,
// never compared.
func (m *Module) namesOf(i int) []string {
	if m.whole == nil { // few are asked for
		return m.file.NamesAt(m.funcs[i].at)
	}
	w := m.whole
	if w.names == nil {
		w.names = map[address.Vaddr][]string{}
		all, err := m.file.Functions()
		if err != nil {
			all = nil // a table that is malformed has no names
		}
		for _, f := range all {
			w.names[f.Start] = f.Names
		}
	}
	return w.names[m.funcs[i].at]
}

// bound keeps the functions that are code and ends each before the next. The
// unwind table describes whole PLT sections as one function, which is none.
func (m *Module) bound(all []binfile.Bound) error {
	if len(all) > maxFunctions {
		return fmt.Errorf("%d functions are more than %d", len(all), maxFunctions)
	}
	m.funcs = make([]function, 0, len(all))
	var end address.Vaddr
	for i, fn := range all {
		s := m.image.segment(fn.Start)
		if s == nil || s.flags&elf.PF_X == 0 || fn.Indirect {
			continue
		}
		room := s.size - uint64(fn.Start-s.at)
		size := fn.Size
		if size == 0 && i+1 < len(all) {
			size = uint64(all[i+1].Start - fn.Start)
		}
		size = min(size, room)
		if size == 0 || fn.Start < end {
			continue // a name inside another function
		}
		code := m.image.code(fn.Start, stubSize)
		if slot, ok := m.image.machine.stub(code, fn.Start); m.image.machine.isPLT(code) || ok && m.image.names[slot] != "" {
			continue // no function
		}
		end = fn.Start + address.Vaddr(size)
		m.funcs = append(m.funcs, function{fn.Start, size})
	}
	if len(m.funcs) == 0 {
		return ErrNoFunctions
	}
	return nil
}

// at returns the function that starts at v, or -1.
func (m *Module) at(v address.Vaddr) int {
	i, ok := slices.BinarySearchFunc(m.funcs, v, func(f function, v address.Vaddr) int { return cmp.Compare(f.at, v) })
	if !ok {
		return -1
	}
	return i
}

// around returns the function that contains v, or -1.
func (m *Module) around(v address.Vaddr) int {
	i, ok := slices.BinarySearchFunc(m.funcs, v, func(f function, v address.Vaddr) int { return cmp.Compare(f.at, v) })
	if !ok {
		i--
	}
	if i < 0 || uint64(v-m.funcs[i].at) >= m.funcs[i].size {
		return -1
	}
	return i
}

// imported returns the name of the PLT entry at v, or "".
func (m *Module) imported(v address.Vaddr) string {
	name, ok := m.plt[v]
	if !ok {
		if m.at(v) < 0 {
			name = m.image.stub(v)
		}
		m.plt[v] = name
	}
	return name
}

// body returns what function i contains.
func (m *Module) body(i int) *body {
	if m.bodies[i] == nil {
		m.bodies[i] = m.readBody(i)
	}
	return m.bodies[i]
}

// maxSample is how many functions are read to know what is common in a module.
const (
	maxSample  = 512
	maxSampled = 4096 // bytes: reading a few huge ones would cost more than all others
)

// background counts the features of a sample of the module's functions, which is
// the same whatever is searched for.
func (m *Module) background() *census {
	if m.common == nil {
		n := min(len(m.funcs), maxSample)
		m.common = newCensus(n * 128)
		for i := range n {
			if j := i * len(m.funcs) / n; m.funcs[j].size <= maxSampled {
				m.common.add(m.body(j).features)
			}
		}
		m.common.settle()
	}
	return m.common
}

// Functions returns how many functions the module has.
func (m *Module) Functions() int { return len(m.funcs) }
