//go:build race

package tracee

// Under the race detector a spy takes ten times as long to start.
const raceEnabled = true
