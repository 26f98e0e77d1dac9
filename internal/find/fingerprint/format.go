package fingerprint

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// The .pf format, version 6; docs/pfp.md describes it. Version 1, without sketches,
// version 2, without slots, version 3, without kin, version 4, without builds that are
// there whole, and version 5, without places that lead to functions, are read too; 5 and 4
// are written where there is none. After the magic, the
// version and a CRC-32 of the rest comes deflated data: integers are unsigned LEB128 (as
// in DWARF), a text is its length and its bytes, a list is its length and its elements.
const (
	magic   = "PIEpf"
	version = 6
	header  = len(magic) + 1 + 4
)

// Bounds of a file that is read.
const (
	maxFile    = 16 << 20 // bytes, compressed
	maxContent = 64 << 20
	maxText    = 4096
	maxTable   = 1 << 20 // different features
)

// ErrNotFingerprint says that the data is no .pf file.
var ErrNotFingerprint = errors.New("not a fingerprint (.pf) file")

// VersionError says that a .pf file is of a version this program does not read.
type VersionError struct{ Version int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("a fingerprint of format version %d; this program reads version %d: make it again with pfp create", e.Version, version)
}

// DamagedError says that a .pf file contradicts itself.
type DamagedError struct{ Msg string }

func (e *DamagedError) Error() string { return "damaged fingerprint: " + e.Msg }

// Encode returns the .pf file of a fingerprint.
func (fp *Fingerprint) Encode() []byte {
	w := &writer{shares: map[Feature]float64{}, index: map[Feature]uint64{}}
	w.fingerprint(fp)
	var body bytes.Buffer
	z, err := flate.NewWriter(&body, flate.BestCompression)
	if err == nil {
		_, err = z.Write(w.b)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		panic("deflating into memory: " + err.Error()) // a bytes.Buffer takes everything
	}
	out := append([]byte(magic), fp.version())
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(body.Bytes()))
	return append(out, body.Bytes()...)
}

// version is the oldest that can hold the fingerprint.
func (fp *Fingerprint) version() byte {
	switch {
	case fp.tellsPlaces():
		return 6
	case fp.carriesWhole():
		return 5
	}
	return 4
}

// tellsPlaces tells whether a function is known by where its address is kept.
func (fp *Fingerprint) tellsPlaces() bool {
	places := false
	for i := range fp.References {
		fp.References[i].samples(func(s *Sample) { places = places || len(s.places()) > 0 })
	}
	return places
}

type writer struct {
	b      []byte
	shares map[Feature]float64
	index  map[Feature]uint64
}

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *writer) text(s string) {
	s = s[:min(len(s), maxText)]
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) fingerprint(fp *Fingerprint) {
	w.text(fp.Function)
	w.table(fp)
	var texts []Feature
	for f := range fp.Texts {
		if _, ok := w.index[f]; ok {
			texts = append(texts, f)
		}
	}
	slices.Sort(texts)
	w.number(uint64(len(texts)))
	for _, f := range texts {
		w.number(w.index[f])
		w.text(fp.Texts[f])
	}
	w.number(uint64(len(fp.References)))
	for i := range fp.References {
		w.reference(&fp.References[i])
	}
	if fp.version() >= 5 {
		w.wholes(fp.References)
	}
}

// table writes every feature once, ascending, with its share: of several builds
// the largest.
func (w *writer) table(fp *Fingerprint) {
	note := func(list []Rated) {
		for _, f := range list {
			w.shares[f.Feature] = max(w.shares[f.Feature], f.Share)
		}
	}
	for i := range fp.References {
		fp.References[i].samples(func(s *Sample) {
			note(s.Features)
			note(s.Context)
		})
	}
	all := make([]Feature, 0, len(w.shares))
	for f := range w.shares {
		all = append(all, f)
	}
	slices.Sort(all)
	w.number(uint64(len(all)))
	for i, f := range all {
		w.index[f] = uint64(i)
		b := binary.BigEndian.AppendUint64(nil, uint64(f))
		w.b = append(w.b, b[2:]...)
		w.b = append(w.b, packShare(w.shares[f]))
	}
}

// packShare keeps the logarithm of a share in steps of a sixteenth.
func packShare(share float64) byte {
	return byte(min(max(math.Round(-16*math.Log(share)), 0), 255))
}

func unpackShare(b byte) float64 { return min(math.Exp(-float64(b)/16), .999) }

// samples visits the functions of a reference.
func (r *Reference) samples(visit func(*Sample)) {
	visit(&r.Target)
	for _, list := range [][]Sample{r.Callees, r.Callers, r.Alike, r.Kin} {
		for i := range list {
			visit(&list[i])
		}
	}
}

func (w *writer) reference(r *Reference) {
	w.text(r.Label)
	w.text(r.BuildID)
	fixed := uint64(0)
	if r.Fixed {
		fixed = 1
	}
	for _, n := range []uint64{fixed, uint64(r.At), uint64(r.Functions), uint64(r.Twins)} {
		w.number(n)
	}
	w.sketch(&r.Sketch)
	w.codes(r.Slot.Before)
	w.codes(r.Slot.After)
	w.sample(&r.Target)
	for _, list := range [][]Sample{r.Callees, r.Callers, r.Alike, r.Kin} {
		w.number(uint64(len(list)))
		for i := range list {
			w.sample(&list[i])
		}
	}
}

func (w *writer) sketch(s *Sketch) {
	w.b = binary.LittleEndian.AppendUint64(w.b, s.Versions)
	w.b = binary.LittleEndian.AppendUint64(w.b, s.Exports)
	w.number(uint64(len(s.Words)))
	for _, v := range s.Words {
		b := binary.BigEndian.AppendUint64(nil, v)
		w.b = append(w.b, b[8-hashBits/8:]...)
	}
}

func (w *writer) codes(list []uint64) {
	w.number(uint64(len(list)))
	for _, v := range list {
		w.b = binary.LittleEndian.AppendUint64(w.b, v)
	}
}

func (w *writer) sample(s *Sample) {
	w.text(s.Name)
	w.number(s.Size)
	w.number(uint64(s.Insns))
	w.b = binary.LittleEndian.AppendUint64(w.b, s.Exact)
	for _, list := range [][]Rated{s.Features, s.Context} {
		w.number(uint64(len(list)))
		last := uint64(0)
		for _, f := range list {
			w.number(w.index[f.Feature] - last)
			last = w.index[f.Feature]
		}
	}
}

// Decode reads a .pf file, which may be made to hurt. Errors:
// ErrNotFingerprint, *VersionError, *DamagedError.
func Decode(b []byte) (*Fingerprint, error) {
	if len(b) < header || string(b[:len(magic)]) != magic {
		return nil, ErrNotFingerprint
	}
	v := int(b[len(magic)])
	if v < 1 || v > version {
		return nil, &VersionError{v}
	}
	if len(b) > maxFile {
		return nil, &DamagedError{fmt.Sprintf("%d bytes are more than %d", len(b), maxFile)}
	}
	if crc32.ChecksumIEEE(b[header:]) != binary.LittleEndian.Uint32(b[len(magic)+1:]) {
		return nil, &DamagedError{"its checksum does not fit"}
	}
	var content bytes.Buffer
	content.Grow(min(usualRatio*len(b), maxContent) + bytes.MinRead)
	if _, err := content.ReadFrom(io.LimitReader(flate.NewReader(bytes.NewReader(b[header:])), maxContent+1)); err != nil {
		return nil, &DamagedError{err.Error()}
	}
	body := content.Bytes()
	if len(body) > maxContent {
		return nil, &DamagedError{fmt.Sprintf("more than %d bytes", maxContent)}
	}
	r := &reader{b: body, version: v}
	fp := r.fingerprint()
	if r.bad == "" && len(r.b) > 0 {
		r.fail("bytes are left over")
	}
	if r.bad != "" {
		return nil, &DamagedError{r.bad}
	}
	return fp, nil
}

// usualRatio is how many bytes of content a byte of file holds at most, as a rule.
const usualRatio = 4

// reader takes a .pf file's content apart. After the first contradiction it
// gives zeros.
type reader struct {
	b       []byte
	version int
	bad     string
	table   []Rated
	spent   int // features given to samples
}

func (r *reader) fail(format string, args ...any) {
	if r.bad == "" {
		r.bad, r.b = fmt.Sprintf(format, args...), nil
	}
}

func (r *reader) number(most uint64) uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 && uint64(r.b[0]) <= most { // as most are
		n := uint64(r.b[0])
		r.b = r.b[1:]
		return n
	}
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > most {
		r.fail("a number is cut off or larger than %d", most)
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("%d bytes are wanted and %d are left", n, len(r.b))
		return make([]byte, min(n, 16))
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string {
	n := int(r.number(maxText))
	if r.bad != "" {
		return ""
	}
	return string(r.take(n))
}

func (r *reader) fingerprint() *Fingerprint {
	fp := &Fingerprint{Function: r.text(), Texts: map[Feature]string{}}
	r.features()
	for n := r.number(maxTable); n > 0 && r.bad == ""; n-- {
		i := r.number(maxTable)
		if i >= uint64(len(r.table)) {
			r.fail("text of feature %d of %d", i, len(r.table))
			break
		}
		fp.Texts[r.table[i].Feature] = r.text()
	}
	n := r.number(maxReferences)
	for ; n > 0 && r.bad == ""; n-- {
		fp.References = append(fp.References, r.reference())
	}
	if len(fp.References) == 0 {
		r.fail("no build")
	}
	if r.version >= 5 {
		r.wholes(fp.References)
	}
	return fp
}

func (r *reader) features() {
	const size = 6 + 1
	var shares [256]float64 // math.Exp takes longer than all the rest
	for i := range shares {
		shares[i] = unpackShare(byte(i))
	}
	last := Feature(0)
	n := r.number(maxTable)
	r.table = make([]Rated, 0, min(n, uint64(len(r.b)/size)))
	for ; n > 0 && r.bad == ""; n-- {
		b := r.take(size)
		if r.bad != "" {
			return
		}
		f := Feature(uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:])))
		if f <= last || f.Kind() == 0 || f.Kind() >= kindEnd || f.Kind() >= KindRow && r.version < 6 {
			r.fail("feature %#x is out of order or of an unknown kind", uint64(f))
			return
		}
		last = f
		r.table = append(r.table, Rated{Feature: f, Share: shares[b[6]]})
	}
}

func (r *reader) reference() Reference {
	ref := Reference{Label: r.text(), BuildID: r.text(), Fixed: r.number(1) == 1}
	ref.At = address.Vaddr(r.number(math.MaxUint64))
	ref.Functions = int(r.number(maxFunctions))
	ref.Twins = int(r.number(maxFunctions))
	if r.version >= 2 {
		ref.Sketch = r.sketch()
	}
	if r.version >= 3 {
		ref.Slot = Slot{Before: r.codes(), After: r.codes()}
	}
	ref.Target = r.sample()
	if ref.Target.Insns < smallest {
		r.fail("a function of %d instructions", ref.Target.Insns)
	}
	ref.Callees, ref.Callers, ref.Alike = r.some(maxAround), r.some(maxAround), r.some(maxAround)
	if r.version >= 4 {
		ref.Kin = r.some(maxKin)
	}
	return ref
}

// some reads a list of at most so many functions.
func (r *reader) some(most uint64) []Sample {
	var out []Sample
	for n := r.number(most); n > 0 && r.bad == ""; n-- {
		out = append(out, r.sample())
	}
	return out
}

func (r *reader) codes() []uint64 {
	var out []uint64
	for n := r.number(slotSize); n > 0 && r.bad == ""; n-- {
		if b := r.take(8); r.bad == "" {
			out = append(out, binary.LittleEndian.Uint64(b))
		}
	}
	return out
}

func (r *reader) sketch() Sketch {
	var s Sketch
	if b := r.take(16); r.bad == "" {
		s.Versions, s.Exports = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	}
	for n := r.number(sketchSize); n > 0 && r.bad == ""; n-- {
		b := r.take(hashBits / 8)
		if r.bad != "" {
			break
		}
		v := binary.BigEndian.Uint64(append(make([]byte, 8-hashBits/8), b...))
		if len(s.Words) > 0 && v <= s.Words[len(s.Words)-1] {
			r.fail("a sketch is out of order")
			break
		}
		s.Words = append(s.Words, v)
	}
	return s
}

func (r *reader) sample() Sample {
	s := Sample{Name: r.text(), Size: r.number(maxFunctionSize), Insns: int(r.number(maxFunctionSize * (1 + maxParts)))}
	if b := r.take(8); r.bad == "" {
		s.Exact = binary.LittleEndian.Uint64(b)
	}
	s.Features, s.Context = r.list(), r.list()
	return s
}

// list reads ascending features by their place in the table.
func (r *reader) list() []Rated {
	n := r.number(maxFeatures)
	if r.spent += int(n); r.spent > maxTable {
		r.fail("more than %d features", maxTable)
	}
	if n > uint64(len(r.b)) { // each takes a byte at least
		r.fail("%d features in %d bytes", n, len(r.b))
	}
	if n == 0 || r.bad != "" {
		return nil
	}
	out := make([]Rated, 0, n)
	at := uint64(0)
	for i := range n {
		step := r.number(maxTable)
		if at += step; i > 0 && step == 0 || at >= uint64(len(r.table)) {
			r.fail("feature %d of %d, or twice the same", at, len(r.table))
			return nil
		}
		out = append(out, r.table[at])
	}
	return out
}
