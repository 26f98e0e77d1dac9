package fingerprint

import (
	"bytes"
	"debug/elf"
	"slices"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// Sketch is what tells whether two builds were made from the same source: what they
// say. Another version says something otherwise, its own number at least. Who compiled
// them changes little: a text that is the end of another, or is copied by
// instructions.
type Sketch struct {
	// Words are, of the pairs of words that follow each other in the build's messages,
	// those whose hashes are the smallest: ascending, of hashBits bits, at most
	// sketchSize. Two such lists tell which share of all pairs two builds have in
	// common (Bar-Yossef and others, Counting distinct elements in a data stream, 2002).
	Words []uint64
	// Versions is a hash of the version numbers in its texts, or 0 for none.
	Versions uint64
	// Exports is a hash of the names of the functions that it exports, or 0 for none.
	Exports uint64
}

const (
	// sketchSize pairs tell the share within two parts in a hundred.
	sketchSize = 512
	// sketchLeast is how many pairs must be known to tell anything.
	sketchLeast = 48
	// sketchText is the least length of a text: shorter ones are found in any data.
	sketchText = 5
	// sameWords is the share that builds of one source have in common; of one version
	// number, when their compilers differ much.
	sameWords, sameVersionWords = .98, .95
	// foreignWords is that of compilers of two makers.
	foreignWords = .9
	// patchedWords is the share that is left of one version number by a large patch, which
	// exports nothing new; what does may be another version that does not say so.
	patchedWords = .8
)

// sameSource tells whether two builds were made from the same source, as far as what
// they say shows it.
func (s *Sketch) sameSource(o *Sketch) bool {
	if !s.sameNames(o) {
		return false
	}
	need := sameWords
	if s.Versions != 0 {
		need = sameVersionWords
	}
	return s.common(o) >= need
}

// foreignSource tells whether two builds were made from the same source, or nearly, by
// compilers that have little in common: one puts texts behind tables, whose last byte may
// be a letter, where the other has zeros.
func (s *Sketch) foreignSource(o *Sketch) bool {
	return s.sameNames(o) && s.Versions|s.Exports != 0 && s.common(o) >= foreignWords
}

// sameNames tells whether two builds have the same version numbers and exports.
func (s *Sketch) sameNames(o *Sketch) bool { return s.Versions == o.Versions && s.Exports == o.Exports }

// nearSource tells whether two builds are of one version of the source, or of two that
// differ by a patch, which adds a message, a version of its own, or a function.
func (s *Sketch) nearSource(o *Sketch) bool {
	switch {
	case s.sameSource(o):
		return true
	case s.Versions != 0 && s.sameNames(o):
		return s.common(o) >= patchedWords
	case s.Versions != 0 && s.Versions == o.Versions:
		return s.common(o) >= sameVersionWords
	case s.Exports != 0 && s.Exports == o.Exports:
		return s.common(o) >= sameVersionWords
	}
	return false
}

// common returns which share of their pairs of words two builds have in common, or 0
// where too few are known.
func (s *Sketch) common(o *Sketch) float64 {
	a, b := s.Words, o.Words
	if len(a) < sketchLeast || len(b) < sketchLeast {
		return 0
	}
	// Of the smallest values of both together, those that are in both.
	n, both := 0, 0
	for ; n < sketchSize && len(a)+len(b) > 0; n++ {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			a = a[1:]
		case len(a) == 0 || b[0] < a[0]:
			b = b[1:]
		default:
			both++
			a, b = a[1:], b[1:]
		}
	}
	return float64(both) / float64(n)
}

// sketch returns the sketch of a module, which it keeps.
func (m *Module) sketch() *Sketch {
	if m.said == nil {
		m.said = m.image.sketch()
		m.said.Exports = m.exports()
	}
	return m.said
}

func (im *image) sketch() *Sketch {
	words := lowest{limit: 1 << hashBits}
	var versions []uint64
	im.eachText(func(text []byte) {
		message := isMessage(text)
		if found := appendVersions(versions, text, message); len(found) > len(versions) && !namesCompiler(text) {
			versions = found
		}
		if !message {
			return
		}
		last := uint64(0)
		for word := range bytes.FieldsSeq(text) {
			h := hashBytes(word)
			if last != 0 {
				words.add(mix(last+h) & (1<<hashBits - 1))
			}
			last = mix(h)
		}
	})
	words.settle()
	s := &Sketch{Words: words.all}
	s.Versions = hashSet(versions)
	return s
}

// exports returns the hash of the names of what the file exports, without the versions
// of symbols; 0 when it exports nothing, or its table is malformed.
func (m *Module) exports() uint64 {
	syms, err := m.file.DynSymbols()
	if err != nil {
		return 0
	}
	var names []uint64
	for i := range syms {
		if syms[i].IsFunc() && m.at(syms[i].Value) >= 0 {
			names = append(names, hashBytes([]byte(syms[i].Name)))
		}
	}
	return hashSet(names)
}

// exported tells whether the file exports function i.
func (m *Module) exported(i int) bool {
	syms, err := m.file.DynSymbols()
	return err == nil && slices.ContainsFunc(syms, func(s binfile.Symbol) bool { return s.IsFunc() && s.Value == m.funcs[i].at })
}

func hashSet(values []uint64) uint64 {
	h := uint64(0)
	slices.Sort(values)
	for _, v := range slices.Compact(values) {
		h = mix(h + v)
	}
	return h
}

// lowest keeps the smallest of many numbers, each once.
type lowest struct {
	all   []uint64
	limit uint64 // as large ones are none of them
}

func (s *lowest) add(v uint64) {
	if v >= s.limit {
		return
	}
	if s.all = append(s.all, v); len(s.all) >= 8*sketchSize {
		s.settle()
	}
}

func (s *lowest) settle() {
	slices.Sort(s.all)
	s.all = slices.Compact(s.all)
	if len(s.all) >= sketchSize {
		s.all = s.all[:sketchSize]
		s.limit = s.all[sketchSize-1]
	}
}

// eachText visits the C strings in constant data that is no code. What comes right
// before one, a table's end, may look like a part of it.
func (im *image) eachText(visit func([]byte)) {
	var room []byte
	for i := range im.segments {
		s := &im.segments[i]
		if s.flags&(elf.PF_W|elf.PF_X) != 0 {
			continue
		}
		kept := 0 // bytes of a text that goes on
		for off := uint64(0); off < s.size; {
			n := min(s.size-off, textsAtOnce)
			room = slices.Grow(room[:kept], int(n))[:kept+int(n)]
			s.read(room[kept:], off)
			off += n
			if rest := eachTextIn(room, kept, visit); len(rest) < len(room) {
				kept = copy(room, rest)
			} else {
				kept = len(room)
			}
		}
	}
}

// textsAtOnce is how many bytes are looked at for texts at once.
const textsAtOnce = 64 << 10

// eachTextIn visits the C strings of some data and returns what is behind the last. The
// first bytes are known to hold no end of one.
func eachTextIn(data []byte, known int, visit func([]byte)) []byte {
	for {
		n := bytes.IndexByte(data[known:], 0)
		if n < 0 {
			return data
		}
		end := known + n
		start := end
		for start > 0 && isPrintable(data[start-1]) {
			start--
		}
		if end-start >= sketchText {
			visit(data[start:end])
		}
		for end++; end < len(data) && data[end] == 0; end++ { // padding
		}
		data, known = data[end:], 0
	}
}

func isPrintable(c byte) bool {
	return c >= 0x20 && c < 0x7f || c == '\t' || c == '\n' || c == '\r'
}

// isMessage tells texts for people from names and declarations (__PRETTY_FUNCTION__), which
// compilers add to, and from the letters that other tables happen to have.
func isMessage(text []byte) bool {
	if isDeclaration(text) {
		return false
	}
	spaces, lower := 0, 0
	for _, c := range text {
		switch {
		case c == ' ':
			spaces++
		case c >= 'a' && c <= 'z':
			lower++
		}
	}
	return spaces > 0 && len(text) >= 8 && 2*(lower+spaces) >= len(text)
}

// isDeclaration recognizes "int yaml_emit(yaml_event_t *, int)".
func isDeclaration(text []byte) bool {
	open := bytes.IndexByte(text, '(')
	return open > 0 && text[open-1] != ' ' && text[len(text)-1] == ')' && bytes.IndexByte(text[:open], ' ') > 0
}

// appendVersions adds the hashes of the version numbers in a text: numbers of two
// digits' groups or more, with dots between them, that stand for themselves (%5.2f
// does not) and are not among capitals only, as in tables.
func appendVersions(to []uint64, text []byte, message bool) []uint64 {
	for i := 0; i < len(text); {
		if !isDigit(text[i]) {
			i++
			continue
		}
		end, dots := i, 0
		for end < len(text) && (isDigit(text[end]) || text[end] == '.' && end+1 < len(text) && isDigit(text[end+1])) {
			if text[end] == '.' {
				dots++
			}
			end++
		}
		// 1.2 may be anything; 1.2.3, or a message with 1.2, is a version.
		if (dots >= 2 || dots == 1 && message) && (i == 0 || text[i-1] != '%' && text[i-1] != '.' && text[i-1] != '_') {
			to = append(to, hashBytes(text[i:end]))
		}
		i = end
	}
	return to
}

// namesCompiler tells whether a text has the compiler's version, as "built by gcc
// 12.2.0" has.
func namesCompiler(text []byte) bool {
	for _, name := range []string{"gcc", "GCC", "clang", "Clang"} {
		if bytes.Contains(text, []byte(name)) {
			return true
		}
	}
	return false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
