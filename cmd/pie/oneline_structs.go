package main

import (
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/guard/oneline"
	"github.com/patch-integration-engine/pie/internal/operate/author"
)

// structs answers what a condition asks of the program's structs.
type structs struct{ reading *author.Reading }

// param is a parameter, or a field, of a type of the program.
func (s *structs) param(name string, t debuginfo.Type) oneline.Param {
	p := oneline.Param{Name: name, Type: conditionType(t), Written: t.Name}
	if t.Points != "" && s.reading != nil {
		p.Points = func() (oneline.Fields, error) { return s.of(s.reading.Struct(t.Points)) }
	}
	return p
}

func (s *structs) of(found *author.Struct, err error) (oneline.Fields, error) {
	if err != nil {
		return nil, err
	}
	return oneStruct{found, s}, nil
}

// oneStruct is one struct, for package oneline.
type oneStruct struct {
	*author.Struct
	all *structs
}

func (s oneStruct) Go() string { return s.Name }

func (s oneStruct) Field(name string) (oneline.Field, error) {
	m, goName, err := s.Struct.Field(name)
	if err != nil {
		return oneline.Field{}, err
	}
	f := oneline.Field{Go: goName, Param: s.all.param(name, m.Type)}
	switch {
	case len(m.Dims) > 0:
		f.Type, f.Points = oneline.Struct, nil
		f.Chars = len(m.Dims) == 1 && m.Elem.Size == 1 && m.Elem.Kind != debuginfo.Other && !m.Elem.Bool
	case m.Within != 0 && f.Type == oneline.Struct:
		f.Inside = func() (oneline.Fields, error) { return s.all.of(s.all.reading.Inside(m)) }
	case f.Type == oneline.Float:
		f.Type = oneline.Struct // its bits are no number to compare
	}
	return f, nil
}
