// Package prepatch guards expat 2.5.0 against entities that nest without bound (CVE-2024-8176).
package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id    CVE-2024-8176
//pie:fixed 2.5.0-1+deb12u2
//pie:ref   https://nvd.nist.gov/vuln/detail/CVE-2024-8176

const (
	// maxDepth is how many entities may be open in one another.
	maxDepth = 500
	// recursiveEntity is XML_ERROR_RECURSIVE_ENTITY_REF.
	recursiveEntity = 12
)

// parser is the part of XML_ParserStruct that has the list of open entities.
type parser struct {
	_    [568]byte
	open libpie.Addr
}

// openEntity is OPEN_INTERNAL_ENTITY: each knows the one it is in.
type openEntity struct {
	_    [16]byte
	next libpie.Addr
}

// ProcessInternalEntity refuses an entity that is in 500 others.
//
//pie:guard lib=libexpat.so.1 func=processInternalEntity onfault=pass onfuel=reject:12
func ProcessInternalEntity(_ *libpie.Call, p *parser) libpie.Verdict {
	depth := 0
	for e := p.open; e != 0; e = libpie.At[openEntity](e).next {
		if depth++; depth > maxDepth {
			return libpie.Reject(int32(recursiveEntity))
		}
	}
	return libpie.Pass()
}
