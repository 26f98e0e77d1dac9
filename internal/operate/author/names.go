package author

import (
	"go/token"
	"go/types"
	"strings"
	"unicode"
	"unicode/utf8"
)

// identifier makes a Go name of one of the program: lower camel case, so that it
// differs in case and underscores only, which is how mirrors are matched. It is
// empty when nothing of the name can be kept.
func identifier(name string) string {
	var b strings.Builder
	upper := false
	for _, r := range name {
		switch {
		case r == '_':
			upper = b.Len() > 0
		case r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			switch {
			case b.Len() == 0:
				r = unicode.ToLower(r)
			case upper:
				r = unicode.ToUpper(r)
			}
			b.WriteRune(r)
			upper = false
		default:
			return ""
		}
	}
	out := b.String()
	if out != "" && unicode.IsDigit(rune(out[0])) {
		return "_" + out // what a tuple of Rust has: __0
	}
	if out == "" {
		return ""
	}
	if token.IsKeyword(out) || types.Universe.Lookup(out) != nil {
		return exported(out)
	}
	return out
}

// parameterName is identifier for a parameter, which may shadow what Go
// predeclares but is not taken for a type.
func parameterName(name string) string {
	n := identifier(name)
	if n == "" || token.IsKeyword(strings.ToLower(n[:1])+n[1:]) {
		return ""
	}
	return strings.ToLower(n[:1]) + n[1:]
}

// typeName is identifier without packages, namespaces and template arguments.
func typeName(name string) string {
	if cut := strings.IndexAny(name, "<["); cut > 0 {
		name = name[:cut]
	}
	if cut := strings.LastIndexAny(name, ".:"); cut >= 0 {
		name = name[cut+1:]
	}
	return identifier(name)
}

// exported is an identifier with its first letter large.
func exported(name string) string {
	if name == "" {
		return ""
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// comment is text from the program as the rest of a line.
func comment(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if len(text) > 80 {
		text = strings.ToValidUTF8(text[:80], "") + "…"
	}
	return text
}
