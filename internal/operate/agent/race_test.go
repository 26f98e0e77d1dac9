//go:build race

package agent

// raced: the race detector slows an insertion down so much that the limit of a
// hold may be over before it is done.
const raced = true
