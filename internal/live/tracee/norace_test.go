//go:build !race

package tracee

const raceEnabled = false
