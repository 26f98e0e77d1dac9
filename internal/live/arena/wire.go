package arena

import (
	"time"
	"unicode/utf8"
)

// writer appends little-endian fields.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)     { w.b = append(w.b, v) }
func (w *writer) u16(v uint16)   { w.b = order.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)   { w.b = order.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)   { w.b = order.AppendUint64(w.b, v) }
func (w *writer) bytes(v []byte) { w.b = append(w.b, v...) }

// time appends nanoseconds since 1970; the zero time is 0.
func (w *writer) time(t time.Time) {
	if t.IsZero() {
		w.u64(0)
		return
	}
	w.u64(uint64(t.UnixNano()))
}

// fixed appends v in a field of n bytes, cut or padded with zeros.
func (w *writer) fixed(v []byte, n int) {
	end := len(w.b) + n
	w.bytes(v[:min(len(v), n)])
	w.pad(end)
}

// text appends a length byte and s in a field of n bytes; a longer s is cut at
// a rune.
func (w *writer) text(s string, n int) {
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	w.u8(uint8(len(s)))
	w.fixed([]byte(s), n)
}

// pad appends zeros up to a length of n bytes.
func (w *writer) pad(n int) {
	for len(w.b) < n {
		w.b = append(w.b, 0)
	}
}

// reader takes little-endian fields; past the end it returns zeros and sets
// short.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short = true
		r.b = nil
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return order.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return order.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return order.Uint64(r.take(8)) }

func (r *reader) time() time.Time {
	n := r.u64()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n))
}

// text takes what writer.text appended. The bytes are an enemy's: the length
// is cut to the field, and what is not UTF-8 or not printable is replaced by
// whoever prints it.
func (r *reader) text(n int) string {
	size := int(r.u8())
	v := r.take(n)
	return string(v[:min(size, n)])
}
