package locate

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// goErrors are the error variables of the standard library that are found in
// programs without symbols: their text, as all were made by errors.New, and
// functions that load them in Go 1.20 to 1.26, one version or another.
var goErrors = map[string]struct {
	text  string
	funcs []string
}{
	"io.EOF": {"EOF", []string{
		"io.ReadAtLeast", "io.ReadAll", "io.CopyN", "io.copyBuffer", "io.discard.ReadFrom", "io.(*LimitedReader).Read",
		"io.(*SectionReader).Read", "io.(*multiReader).Read", "io.(*eofReader).Read", "io.eofReader.Read",
		"bytes.(*Buffer).Read", "bytes.(*Buffer).ReadByte", "bytes.(*Buffer).ReadFrom", "bytes.(*Reader).Read", "bytes.(*Reader).ReadByte",
		"strings.(*Reader).Read", "strings.(*Reader).ReadByte", "strings.(*Reader).ReadRune",
		"bufio.(*Reader).WriteTo", "bufio.(*Scanner).Scan", "bufio.(*Writer).ReadFrom",
		"os.(*File).Read", "os.(*File).ReadAt", "os.(*File).wrapErr", "os.(*File).readdir", "os.ReadFile", "os.readFileContents",
		"internal/poll.(*FD).Read", "internal/poll.(*FD).Pread", "net.(*conn).Read", "net.(*Buffers).Read",
		"fmt.(*ss).Read", "fmt.(*ss).getRune", "fmt.(*ss).scanOne", "fmt.(*readRune).ReadRune", "fmt.(*stringReader).Read",
		"encoding/json.(*Decoder).refill", "encoding/json.(*Decoder).readValue", "compress/flate.(*decompressor).moreBits",
		"net/http.(*body).readLocked", "net/http.(*connReader).Read", "net/http.noBody.Read", "crypto/tls.(*atLeastReader).Read",
	}},
	"io.ErrUnexpectedEOF": {"unexpected EOF", []string{
		"io.ReadAtLeast", "io.ReadFull", "internal/poll.(*FD).Write", "internal/poll.(*FD).Pwrite", "internal/poll.(*FD).Writev",
		"fmt.(*ss).scanOne", "fmt.(*ss).hexByte", "fmt.(*ss).quotedString", "fmt.errorHandler", "encoding/binary.Read",
		"encoding/json.(*Decoder).readValue", "encoding/json.(*Decoder).Decode", "compress/flate.(*decompressor).moreBits",
		"compress/flate.(*decompressor).copyData", "compress/gzip.(*Reader).Read", "crypto/tls.(*atLeastReader).Read", "net.(*file).readLine",
		"net/http.(*body).readLocked", "net/http.ReadResponse", "net/http/internal.readChunkLine", "net/textproto.(*dotReader).Read",
	}},
	"io.ErrShortWrite": {"short write", []string{
		"io.copyBuffer", "io.(*multiWriter).Write", "os.(*File).Write", "bufio.(*Writer).Flush", "bytes.(*Buffer).WriteTo",
		"bytes.(*Reader).WriteTo", "strings.(*Reader).WriteTo", "net/http/internal.(*chunkedWriter).Write",
	}},
	"io.ErrNoProgress": {"multiple Read calls return no data or error", []string{
		"bufio.(*Reader).fill", "bufio.(*Scanner).Scan", "bufio.(*Writer).ReadFrom",
	}},
}

func knownGoErrors() []string { return slices.Sorted(maps.Keys(goErrors)) }

// goError returns the address of a Go variable of type error, whose value must
// look like one: an interface table of the program and a data word.
func (s *Set) goError(im *Image, name string) (address.Addr, error) {
	v, _, err := variable(im.File, name)
	var none *NoSymbol
	if errors.As(err, &none) {
		return s.goErrorFromCode(im, name)
	}
	if err != nil {
		return 0, err
	}
	a := v.Addr(im.Bias)
	if _, err := s.errorValue(im, a); err != nil {
		return 0, fmt.Errorf("%s at %v: %w", name, a, err)
	}
	return a, nil
}

// goErrorFromCode finds a variable in a program linked with -s -w. Functions
// that are known to return it, which .gopclntab still names, load its two words
// relative to rip. The one pair of words that holds an error with the right
// text and is loaded by two of the functions is the variable.
func (s *Set) goErrorFromCode(im *Image, name string) (address.Addr, error) {
	known, ok := goErrors[name]
	t, err := im.File.GoTable()
	if err != nil || !ok {
		return 0, &NoSymbol{name, "not known"}
	}
	votes := map[address.Vaddr]int{}
	for i := range t.Funcs {
		if g := &t.Funcs[i]; slices.Contains(known.funcs, g.Name) {
			for v := range pairsLoaded(im.File, g) {
				votes[v]++
			}
		}
	}
	var found []address.Addr
	for v, n := range votes {
		if n < 2 {
			continue
		}
		a := v.Addr(im.Bias)
		if text, err := s.errorValue(im, a); err == nil && text == known.text {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		return 0, &NoSymbol{name, fmt.Sprintf("%d places are loaded by two of the functions that return it", len(found))}
	}
	return found[0], nil
}

// maxScan bounds the code of one function that is looked through, in bytes.
const maxScan = 64 << 10

// pairsLoaded returns the addresses whose word, and the word behind it, the
// function reads relative to rip.
func pairsLoaded(f *binfile.File, g *binfile.GoFunc) map[address.Vaddr]bool {
	code := make([]byte, min(g.Size, maxScan, f.Mapped(g.Entry)))
	if err := f.ReadVaddr(code, g.Entry); err != nil {
		return nil
	}
	words := map[address.Vaddr]bool{}
	for off := 0; off < len(code); {
		// Link-time addresses serve as well: the decoder only adds.
		in, err := amd64.Decode(code[off:], address.Addr(g.Entry)+address.Addr(off))
		if err != nil {
			break
		}
		if in.RIPRel {
			words[address.Vaddr(in.Mem)] = true
		}
		off += in.Len
	}
	pairs := map[address.Vaddr]bool{}
	for v := range words {
		if words[v+8] && v%8 == 0 {
			pairs[v] = true
		}
	}
	return pairs
}

// errorValue checks that the two words at a are a non-nil Go interface with
// methods: the first points into the image to an interface table whose type
// pointers do so too and whose first method is a function of the program
// (runtime.itab, internal/abi/iface.go: inter, type, hash, fun). It returns the
// text of the error when it is an *errors.errorString, else "".
func (s *Set) errorValue(im *Image, a address.Addr) (string, error) {
	var words [2]uint64
	if err := s.words(words[:], a); err != nil {
		return "", err
	}
	itab := address.Addr(words[0])
	if !im.Contains(itab) {
		return "", fmt.Errorf("its first word %v is not an interface table of the program", itab)
	}
	var tab [4]uint64
	if err := s.words(tab[:], itab); err != nil {
		return "", err
	}
	fun := address.Addr(tab[3])
	if !im.Contains(address.Addr(tab[0])) || !im.Contains(address.Addr(tab[1])) || !im.File.IsCode(fun.Vaddr(im.Bias)) {
		return "", fmt.Errorf("its first word %v is not an interface table", itab)
	}
	t, err := im.File.GoTable()
	if err != nil {
		return "", err
	}
	g := t.At(fun.Vaddr(im.Bias))
	if g == nil {
		return "", fmt.Errorf("the method %v of its interface table is not a Go function", fun)
	}
	if g.Name != "errors.(*errorString).Error" {
		return "", nil
	}
	return s.goString(address.Addr(words[1]))
}

// goString reads a Go string header and its bytes, at most 256 of them.
func (s *Set) goString(a address.Addr) (string, error) {
	var header [2]uint64
	if err := s.words(header[:], a); err != nil {
		return "", err
	}
	b := make([]byte, min(header[1], 256))
	if err := s.read(b, address.Addr(header[0])); err != nil {
		return "", err
	}
	return string(b), nil
}
