package author

import (
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
)

// A Reading is the structs and fields of a program that somebody reads, one after
// another, and in the end the mirrors of just these.
type Reading struct {
	m     *mirrors
	order []*Struct
}

// NewReading reads structs of info; near is as in Mirrors.
func NewReading(info *debuginfo.Info, near address.Vaddr) *Reading {
	r := &Reading{m: newMirrors(info, near)}
	r.m.addrs = true
	for _, used := range []string{"c", "libpie"} { // by the guard that reads
		r.m.taken[used] = true
	}
	return r
}

// Struct is a struct that is read.
type Struct struct {
	Name   string // in Go
	layout *debuginfo.Layout
	fields []string
	r      *Reading
}

// Struct returns the struct of a name.
func (r *Reading) Struct(name string) (*Struct, error) {
	l, err := r.m.info.Layout(name, r.m.near)
	if err != nil {
		return nil, err
	}
	return r.add(l)
}

// Inside returns the struct that a member is.
func (r *Reading) Inside(f debuginfo.Member) (*Struct, error) {
	l, err := r.m.info.LayoutAt(f.Elem.Name, f.Within)
	if err != nil {
		return nil, err
	}
	return r.add(l)
}

func (r *Reading) add(l *debuginfo.Layout) (*Struct, error) {
	for _, s := range r.order {
		if s.layout.At == l.At {
			return s, nil
		}
	}
	switch {
	case l.Name == "":
		return nil, errors.New("it has no name of its own")
	case typeName(l.Name) == "":
		return nil, fmt.Errorf("the name %s cannot be written in Go", l.Name)
	}
	s := &Struct{Name: r.m.free(l.Name), layout: l, r: r}
	r.m.names[l.Name] = s.Name
	r.order = append(r.order, s)
	return s, nil
}

// Field returns a field, and its name in the mirror.
func (s *Struct) Field(name string) (f debuginfo.Member, goName string, err error) {
	members, err := s.r.m.info.Flat(s.layout)
	if err != nil {
		return f, "", err
	}
	found, err := chosen(members, s.layout.Name, []string{name})
	if err != nil {
		return f, "", err
	}
	if goName = identifier(name); goName == "" {
		return f, "", fmt.Errorf("struct %s: the name %q cannot be written in Go", s.layout.Name, name)
	}
	if !slices.Contains(s.fields, name) {
		for _, other := range s.fields {
			if identifier(other) == goName {
				return f, "", fmt.Errorf("struct %s: %s and %s are the same name in Go", s.layout.Name, other, name)
			}
		}
		s.fields = append(s.fields, name)
	}
	return found[0], goName, nil
}

// Mirrors writes what was read as Go structs.
func (r *Reading) Mirrors() ([]byte, error) {
	for _, s := range r.order {
		r.m.wanted[s.layout.At] = request{s.layout, s.Name, s.fields}
	}
	for _, s := range r.order {
		if _, err := r.m.write(s.Name, s.layout, s.fields, 0); err != nil {
			return nil, err
		}
	}
	return r.m.formatted()
}
