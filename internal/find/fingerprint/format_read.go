package fingerprint

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Decode reads a .pf file, which may be made to hurt. Errors:
// ErrNotFingerprint, *VersionError, *DamagedError.
func Decode(b []byte) (*Fingerprint, error) { return decode(b, &reader{}) }

// DecodeOutline reads of a .pf file what Fixed takes, and checks all of it as Decode
// does: a file that it takes is one that Decode takes. Errors are Decode's.
func DecodeOutline(b []byte) (*Outline, error) {
	fp, err := decode(b, &reader{outline: true})
	if err != nil {
		return nil, err
	}
	return fp.Outline(), nil
}

// decode has a reader take a .pf file apart.
func decode(b []byte, r *reader) (*Fingerprint, error) {
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
	r.b, r.version = body, v
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
	outline bool // of features the targets' are kept alone
	bad     string
	table   []byte       // features and their shares, as they are in the file
	shares  [256]float64 // math.Exp takes longer than all the rest
	spent   int          // features given to samples
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

func (r *reader) text() string { return string(r.bytes()) }

// bytes reads a text where it is.
func (r *reader) bytes() []byte {
	n := int(r.number(maxText))
	if r.bad != "" {
		return nil
	}
	return r.take(n)
}

func (r *reader) fingerprint() *Fingerprint {
	fp := &Fingerprint{Function: r.text(), Texts: map[Feature]string{}}
	r.readTable()
	for n := r.number(maxTable); n > 0 && r.bad == ""; n-- {
		i := r.number(maxTable)
		if i >= r.features() {
			r.fail("text of feature %d of %d", i, r.features())
			break
		}
		if text := r.bytes(); !r.outline {
			fp.Texts[r.rated(i).Feature] = string(text)
		}
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
	if r.version >= 7 {
		r.behaviours(fp.References)
	}
	return fp
}

// ratedSize is what a feature and its share take in the table: 48 bits and a byte.
const ratedSize = 6 + 1

// readTable looks at the features of the file, of which lists name many often.
func (r *reader) readTable() {
	for i := range r.shares {
		r.shares[i] = unpackShare(byte(i))
	}
	n := r.number(maxTable)
	table := r.take(int(n) * ratedSize)
	if r.bad != "" {
		return
	}
	r.table = table
	last := Feature(0)
	for i := range n {
		f := r.rated(i).Feature
		if f <= last || f.Kind() == 0 || f.Kind() >= kindEnd || f.Kind() >= KindRow && r.version < 6 {
			r.fail("feature %#x is out of order or of an unknown kind", uint64(f))
			return
		}
		last = f
	}
}

// features is how many the table has.
func (r *reader) features() uint64 { return uint64(len(r.table) / ratedSize) }

// rated is a feature of the table.
func (r *reader) rated(i uint64) Rated {
	b := r.table[i*ratedSize:][:ratedSize]
	f := Feature(uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:])))
	return Rated{Feature: f, Share: r.shares[b[6]]}
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
	ref.Target = r.sample(true)
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
		out = append(out, r.sample(!r.outline))
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

// sample reads a function; its features, too, where they are wanted.
func (r *reader) sample(features bool) Sample {
	name := r.bytes()
	s := Sample{Size: r.number(maxFunctionSize), Insns: int(r.number(maxFunctionSize * (1 + maxParts)))}
	if b := r.take(8); r.bad == "" {
		s.Exact = binary.LittleEndian.Uint64(b)
	}
	if !r.outline {
		s.Name = string(name)
	}
	s.Features, s.Context = r.list(features), r.list(features && !r.outline)
	return s
}

// list reads ascending features by their place in the table; they are looked at whether
// they are wanted or not.
func (r *reader) list(wanted bool) []Rated {
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
	var out []Rated
	if wanted {
		out = make([]Rated, 0, n)
	}
	at := uint64(0)
	for i := range n {
		step := r.number(maxTable)
		if at += step; i > 0 && step == 0 || at >= r.features() {
			r.fail("feature %d of %d, or twice the same", at, r.features())
			return nil
		}
		if wanted {
			out = append(out, r.rated(at))
		}
	}
	return out
}
