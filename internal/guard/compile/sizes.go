package compile

import "go/types"

// sizing lays types out as the gc compiler does for amd64, which for what a
// mirror struct holds is the psABI's layout. go/types has the same, but takes
// time exponential in how deep structs are nested; here each type is laid out
// once.
type sizing struct{ size, align map[types.Type]int64 }

func newSizes() *sizing {
	return &sizing{size: map[types.Type]int64{}, align: map[types.Type]int64{}}
}

// gc knows the basic types.
var gc = types.SizesFor("gc", "amd64")

// word is the size of what a type parameter stands for, at most: see generic.go.
const word = 8

// Alignof returns the alignment of t in bytes.
func (s *sizing) Alignof(t types.Type) int64 {
	if n, ok := s.align[t]; ok {
		return n
	}
	if _, ok := types.Unalias(t).(*types.TypeParam); ok {
		return word
	}
	n := int64(1)
	switch u := t.Underlying().(type) {
	case *types.Struct:
		for i := range u.NumFields() {
			n = max(n, s.Alignof(u.Field(i).Type()))
		}
	case *types.Array:
		n = s.Alignof(u.Elem())
	default:
		n = gc.Alignof(t)
	}
	s.align[t] = n
	return n
}

// Offsetsof returns the offsets of a struct's fields; of those that begin
// behind the end of all memory it is negative.
func (s *sizing) Offsetsof(fields []*types.Var) []int64 {
	offsets := make([]int64, len(fields))
	at := int64(0)
	for i, f := range fields {
		at = roundUp(at, s.Alignof(f.Type()))
		offsets[i] = at
		at = sum(at, s.Sizeof(f.Type()))
	}
	return offsets
}

// Sizeof returns the size of t in bytes, negative if it is too large.
func (s *sizing) Sizeof(t types.Type) int64 {
	if n, ok := s.size[t]; ok {
		return n
	}
	if _, ok := types.Unalias(t).(*types.TypeParam); ok {
		return word
	}
	var n int64
	switch u := t.Underlying().(type) {
	case *types.Struct:
		fields := structFields(u)
		if len(fields) > 0 {
			offsets := s.Offsetsof(fields)
			last := s.Sizeof(fields[len(fields)-1].Type())
			n = sum(offsets[len(offsets)-1], last)
			if last == 0 && n > 0 {
				n = sum(n, 1) // its address must not be behind the struct
			}
		}
		n = roundUp(n, s.Alignof(t))
	case *types.Array:
		n = s.Sizeof(u.Elem())
		if n > 0 && u.Len() > (1<<62)/n {
			n = -1
		} else if n > 0 {
			n *= u.Len()
		}
	default:
		n = gc.Sizeof(t)
	}
	s.size[t] = n
	return n
}

// sum adds sizes; a negative one is too large, and so is the sum.
func sum(a, b int64) int64 {
	if a < 0 || b < 0 || a+b > 1<<62 {
		return -1
	}
	return a + b
}

func roundUp(n, align int64) int64 {
	if n < 0 {
		return n
	}
	return (n + align - 1) / align * align
}
