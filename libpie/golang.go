package libpie

// The values of a Go target that take more than one argument word.

// GoString is a string parameter: two words. c.Bytes(s.Ptr, s.Len) reads it.
type GoString struct {
	Ptr Addr
	Len int
}

// GoSlice is a slice parameter of any element type: three words.
type GoSlice struct {
	Ptr      Addr
	Len, Cap int // in elements
}

// GoError is a parameter of type error, or of another interface type with
// methods: two words, both 0 for nil.
type GoError struct {
	Itab Addr // tells the dynamic type
	Data Addr // the value, or a pointer to it
}

// GoInterface is a parameter of type any: two words, both 0 for nil.
type GoInterface struct {
	Type Addr // the dynamic type
	Data Addr // the value, or a pointer to it
}
