package native

import "reflect"

// SetWord sets v, which has a libpie.Value type, from the low bytes of an
// argument word, as a compiled guard does.
func SetWord(v reflect.Value, w uint64) {
	switch {
	case v.Kind() == reflect.Bool:
		v.SetBool(w&0xff != 0)
	case v.CanInt():
		v.SetInt(int64(w))
	default:
		v.SetUint(w)
	}
}

// Word returns v, which has a libpie.Value type, extended to a word.
func Word(v reflect.Value) uint64 {
	switch {
	case v.Kind() == reflect.Bool:
		if v.Bool() {
			return 1
		}
		return 0
	case v.CanInt():
		return uint64(v.Int())
	default:
		return v.Uint()
	}
}
