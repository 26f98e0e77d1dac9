package fingerprint

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// The .pf format, version 7; docs/pfp.md describes it. Version 1, without sketches,
// version 2, without slots, version 3, without kin, version 4, without builds that are
// there whole, version 5, without places that lead to functions, and version 6, without
// what functions do, are read too; 6, 5 and 4 are written where there is none. After the magic, the
// version and a CRC-32 of the rest comes deflated data: integers are unsigned LEB128 (as
// in DWARF), a text is its length and its bytes, a list is its length and its elements.
const (
	magic   = "PIEpf"
	version = 7
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
	case fp.knowsBehaviour():
		return 7
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
	if fp.version() >= 7 {
		w.behaviours(fp.References)
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
