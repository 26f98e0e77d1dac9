// Package source reads the directives of a prepatch: the //pie: comments of a Go
// file that say which function each guard stands in front of, and what happens
// when a guard cannot decide.
//
// Directives are of two kinds. Those of a guard stand in the doc comment of its
// function:
//
//	//pie:guard exe=redis-server func=stringmatchlen onfault=pass onfuel=reject:0
//
// Those of the file stand anywhere outside functions and their doc comments:
//
//	//pie:id     CVE-2024-31228
//	//pie:fixed  7.0.15-1~deb12u8
//
// Nothing is guessed: an unknown or repeated key is an error, and onfault and
// onfuel have no default, because failing open is a decision.
//
// A prepatch is input from anyone: sizes are bounded, and every string that
// comes out is printable.
package source
